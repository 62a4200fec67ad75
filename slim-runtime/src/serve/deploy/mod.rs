//! Deployment: makes a network ready for inference. Folds batch norms into the layers beside them,
//! and lays out weights as they are read fastest.

pub(super) mod fold;
pub(super) mod form;
mod layout;
mod pairs;
mod report;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::Tensor;

use crate::analysis::{self, Graph, Masking};
use crate::check::verify::bisect;
use crate::error::CheckError;
use crate::numeric::compare;
use crate::surgery::observe;
use crate::{Error, Prunable, Result, fault};
use fold::ByInput;
use form::{LayerInfo, LayerTensors, ModelSnapshot, Norm};
pub use layout::Layout;
use layout::Packing;
use pairs::Pairs;
pub use report::{Deployed, DeployedNorm, LayoutTrial, NormOutcome};
use trial::{LayoutCandidate, UnchangedForward};

/// Makes a network ready for inference, as fast as its layers allow, and keeps its `forward`.
///
/// 1. Every batch norm that is directly and alone behind a convolution, transposed convolution or
///    linear layer is folded into that layer's weight and bias. Any other (behind a ReLU, say) is
///    folded into the layer behind it, if that alone reads it and the result is exact. The drop-in
///    [`nn::BatchNorm`](crate::nn::BatchNorm) is then skipped and costs nothing. tch's own becomes
///    an identity that is still computed, and the report says so.
/// 2. `forward` runs on `sample` before and after. If the outputs differ by more than rounding
///    explains (as for [`Verify::tolerance`](crate::Verify::tolerance)), there is something between
///    a layer and its batch norm that the fields do not state, such as a ReLU. The error names the
///    pairs. A batch norm in front of its layer stays instead, as it is right where it is.
/// 3. The weights get the layout in which `forward` is fastest on `sample`: as they are, or
///    [channels-last or packed](Layout). The layouts are measured in turn. A layout that `forward`
///    cannot use, or that changes its output, is out, and the report gives the reason. So choose a
///    sample of the size that is served.
///
/// A deployed network is for inference. Deploy last: a network with a folded batch norm or packed
/// weights cannot be planned, slimmed, recalibrated or deployed again
/// ([`CheckError::Deployed`](crate::error::CheckError::Deployed)), and its forward pass panics in
/// training mode. If only tch's batch norms were folded, as identities, and no weights were packed,
/// it is an ordinary network, and a second call leaves it as it is.
///
/// The layers get tensors of their own, without gradients. The variable store is left alone: it
/// still holds the network as it was, to be saved, and changes to it (a device, a kind, a `load`)
/// do not reach the deployed layers. Drop it to free its memory. Parameters of layers that are
/// neither tch's nor this crate's, and of norms other than batch norms, embeddings and PReLUs, stay
/// where they are, and are frozen (`requires_grad` is false).
///
/// `forward` runs the network in evaluation mode and returns floats: logits, say. A network with
/// several outputs returns them concatenated.
///
/// ```
/// use slim_runtime::{Prunable, deploy, model, nn};
/// use tch::{Device, Tensor, nn::ModuleT};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(16);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(16 => 10);
///     }
/// }
///
/// let mut net = Net::new(nn::VarStore::new(Device::Cpu).root());
/// net.slim(0.5)?;
/// let images = Tensor::randn([1, 3, 32, 32], tch::kind::FLOAT_CPU);
/// let before = net.forward_t(&images, false);
/// let deployed = deploy(&mut net, &images, |net, images| net.forward_t(images, false))?;
/// println!("{deployed}");
/// assert_eq!(deployed.folded(), 1);
/// assert!(net.forward_t(&images, false).allclose(&before, 1e-4, 1e-5, false));
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// [`CheckError::Folding`](crate::error::CheckError::Folding) when the folded network computes
/// something else; [`CheckError::Unverified`](crate::error::CheckError::Unverified) and
/// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode) when the closure does not
/// allow a comparison; [`CheckError::Deployed`](crate::error::CheckError::Deployed); those of
/// [`trace`](Prunable::trace) and of a hand-written [`layers_mut`](Prunable::layers_mut). The model
/// is restored, to the bit.
///
/// # Panics
/// When the closure panics on the network as it was, or a hand-written `layers_mut` panics. The
/// model is restored here, too.
pub fn deploy<M, X, F>(model: &mut M, sample: &X, forward: F) -> Result<Deployed>
where
    M: Prunable + ?Sized,
    X: ?Sized,
    F: Fn(&M, &X) -> Tensor,
{
    let graph = analysis::trace(model, Masking::BatchNorm)?;
    let (original, traits) = form::survey(model)?;
    let output = observe(model, &graph, |model| forward(model, sample).f_detach())?
        .map_err(Error::torch("the output"))?;
    let tolerance = compare::tolerance(graph.tensors().chain([&output]));
    let trial = UnchangedForward {
        sample,
        forward: &forward,
        expected: compare::usable(&output, "network")?,
        tolerance,
    };
    let deployment = Deployment { graph: &graph, original: &original, traits: &traits, trial };
    let done = catch_unwind(AssertUnwindSafe(|| deployment.carry_out(model)));
    if !matches!(done, Ok(Ok(_))) {
        // Whatever stopped `layers_mut` may stop this at the same place, but every layer that was
        // reached before it is restored by then.
        let _ = catch_unwind(AssertUnwindSafe(|| original.put_back(model)));
    }
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Deployment<'d, X: ?Sized, F> {
    graph: &'d Graph,
    original: &'d ModelSnapshot,
    traits: &'d HashMap<String, LayerInfo>,
    trial: UnchangedForward<'d, X, F>,
}

/// A batch norm and the layer that it is folded into.
struct Fold<'f> {
    into: &'f str,
    change: Change<'f>,
    norm_path: &'f str,
    /// What is left of the batch norm.
    norm: Norm,
}

/// How a layer takes a batch norm.
enum Change<'f> {
    /// The one behind it.
    ByOutput { transposed: Option<i64>, norm: &'f Norm, eps: f64 },
    /// The one in front of it.
    ByInput(&'f ByInput),
}

impl Fold<'_> {
    /// Whether the layer is behind the batch norm.
    fn is_behind(&self) -> bool {
        matches!(self.change, Change::ByInput(_))
    }
}

impl<X: ?Sized, F> Deployment<'_, X, F> {
    /// # Errors
    /// As for [`deploy`]. Some of the model may be changed then.
    fn carry_out<M: Prunable + ?Sized>(&self, model: &mut M) -> Result<Deployed>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let Pairs { mut norms, behind } = pairs::fates(self.graph, self.original, self.traits)?;
        let frozen = self.original.detached()?;
        let mut folds = norms
            .iter()
            .filter_map(|norm| self.fold(norm, &behind).transpose())
            .collect::<Result<Vec<_>>>()?;
        // A layer takes the batch norm in front of it first: the shift is that of its own weight.
        folds.sort_by_key(|fold| !fold.is_behind());
        let mut tried = self.tried(model, &frozen, &folds)?;
        let mut dropped: Vec<(String, String)> = Vec::new();
        if let Err(difference) = &tried
            && folds.iter().any(Fold::is_behind)
        {
            // A batch norm that could be folded into the layer behind it is right as it is.
            let reason = |fold: &Fold| {
                let reason = format!("folded into `{}` behind it, {difference}", fold.into);
                (fold.norm_path.to_owned(), reason)
            };
            dropped = folds.iter().filter(|fold| fold.is_behind()).map(reason).collect();
            folds.retain(|fold| !fold.is_behind());
            tried = self.tried(model, &frozen, &folds)?;
        }
        let (folded, given) = match tried {
            Ok(folded) => folded,
            Err(difference) => return Err(self.explain(model, &frozen, &folds, difference)?),
        };
        for (path, reason) in dropped {
            let norm = norms.iter_mut().find(|norm| norm.path == path);
            norm.into_iter()
                .for_each(|norm| norm.fate = NormOutcome::Left { reason: reason.clone() });
        }

        let packing = Packing { traits: self.traits, given };
        let last = layout::channels_last(&folded)?;
        let packed = packing.of(last.as_ref().unwrap_or(&folded))?;
        let forms = [
            (Layout::ChannelsLast, last),
            (Layout::Packed, packed),
            (Layout::Contiguous, Ok(folded)),
        ];
        let mut candidates = vec![LayoutCandidate::before(self.original.shallow_clone())];
        for (layout, form) in forms {
            candidates.push(self.trial.candidate(model, layout, form)?);
        }
        self.trial.measure(model, &mut candidates)?;
        let deployed = report::report(norms, &candidates)?;
        let kept = candidates.iter().find(|candidate| candidate.layout == Some(deployed.layout));
        if let Some(form) = kept.and_then(|candidate| candidate.form.as_ref().ok()) {
            form.put(model)?;
        }
        freeze(self.graph, self.original)?;
        Ok(deployed)
    }

    /// The snapshot with these batch norms folded, and the shape of the images that each layer is
    /// given; or how the output differs. The model has this form then.
    ///
    /// # Errors
    /// As for [`deploy`].
    #[allow(clippy::type_complexity)]
    fn tried<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        frozen: &ModelSnapshot,
        folds: &[Fold],
    ) -> Result<Result<(ModelSnapshot, HashMap<String, Vec<i64>>), String>>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let everything: Vec<_> = (0..folds.len()).collect();
        let folded = form_of(frozen, folds, &everything)?;
        folded.put(model)?;
        let ran = self.trial.run_recorded(model, &folded)?;
        Ok(ran.map(|(_, given)| (folded, given)))
    }

    /// `None` for a batch norm that stays as it is.
    fn fold<'f>(
        &'f self,
        norm: &'f DeployedNorm,
        behind: &'f HashMap<String, ByInput>,
    ) -> Result<Option<Fold<'f>>> {
        let (NormOutcome::Folded { into } | NormOutcome::Identity { into }) = &norm.fate else {
            return Ok(None);
        };
        let (Some(held), Some(&LayerInfo::Norm { eps, folds })) =
            (self.original.norm(&norm.path), self.traits.get(&norm.path))
        else {
            return Ok(None);
        };
        let change = match (behind.get(&norm.path), self.traits.get(into)) {
            (Some(change), _) => Change::ByInput(change),
            (None, Some(&LayerInfo::Weights { transposed, .. })) => {
                Change::ByOutput { transposed, norm: held, eps }
            }
            _ => return Ok(None),
        };
        let left = if folds {
            Norm { folded: true, ..held.shallow_clone() }
        } else {
            fold::identity(held, eps).map_err(Error::torch(&norm.path))?
        };
        Ok(Some(Fold { into, change, norm_path: &norm.path, norm: left }))
    }

    /// The error that names the pairs of layer and batch norm that make the difference.
    fn explain<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        frozen: &ModelSnapshot,
        folds: &[Fold],
        difference: String,
    ) -> Result<Error>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        self.original.put(model)?;
        if folds.is_empty() || self.trial.compare(model)?.is_err() {
            let reason = "the same network gives another output each time; call its forward pass with `train = false`".to_owned();
            return Ok(Error::Check(CheckError::Unverified { reason }));
        }
        let culprits = bisect::culprits(folds.len(), difference, |part| {
            form_of(frozen, folds, part)?.put(model)?;
            Ok(self.trial.compare(model)?.err())
        })?;
        let place = |(part, how): (Vec<usize>, String)| {
            let pairs: Vec<_> = part
                .iter()
                .map(|&fold| format!("`{}` in `{}`", folds[fold].norm_path, folds[fold].into))
                .collect();
            format!("with {}: {how}", pairs.join(" and "))
        };
        Ok(Error::Check(CheckError::Folding { places: culprits.into_iter().map(place).collect() }))
    }
}

/// The snapshot in which some of the batch norms are folded.
///
/// # Errors
/// [`Error::Torch`].
fn form_of(frozen: &ModelSnapshot, folds: &[Fold], part: &[usize]) -> Result<ModelSnapshot> {
    let mut form = frozen.shallow_clone();
    for fold in part.iter().map(|&fold| &folds[fold]) {
        let Some(layer) = form.weights(fold.into) else { continue };
        let folded = match &fold.change {
            Change::ByOutput { transposed, norm, eps } => {
                fold::folded(layer, *transposed, norm, *eps)
            }
            Change::ByInput(change) => change.folded(layer),
        };
        let weights = folded.map_err(Error::torch(fold.norm_path))?;
        form.set(fold.into, LayerTensors::Weights(weights));
        form.set(fold.norm_path, LayerTensors::Norm(fold.norm.shallow_clone()));
    }
    Ok(form)
}

/// Freezes the parameters of layers that could not be given tensors of their own: all of them or
/// none.
fn freeze(graph: &Graph, reached: &ModelSnapshot) -> Result<()> {
    let layers = graph.layers.iter().filter(|layer| !reached.has(&layer.path));
    let parameters =
        layers.flat_map(|layer| layer.tensors.iter().map(move |bound| (&layer.path, bound)));
    let mut frozen: Vec<&Tensor> = Vec::new();
    for (path, bound) in parameters.filter(|(_, bound)| bound.tensor.requires_grad()) {
        let tensor = &bound.tensor;
        if let Err(cause) = fault::point().and_then(|()| tensor.f_set_requires_grad(false)) {
            frozen.into_iter().for_each(|tensor| _ = tensor.f_set_requires_grad(true));
            return Err(Error::torch(format!("{path}.{}", bound.name))(cause));
        }
        frozen.push(tensor);
    }
    Ok(())
}
