//! Records how large the outputs of layers are, for the criterion [`MeanActivation`].
//!
//! [`MeanActivation`]: crate::criterion::MeanActivation

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Kind, TchError, Tensor};

use crate::analysis::places::Places;
use crate::analysis::{self, Graph, Masking};
use crate::criterion::Activations;
use crate::error::CheckError;
use crate::graph::LayerKind;
use crate::nn::recorder::{self, LayerCall};
use crate::slimming::criterion::why_unobserved;
use crate::{Error, Prunable, Result, surgery};

impl Activations {
    /// Runs `forward` on each batch, without gradients, and records the outputs of the layers.
    ///
    /// `forward` runs the network in evaluation mode. A layer that runs several times counts each
    /// time. See [`MeanActivation`](crate::criterion::MeanActivation) for an example.
    ///
    /// # Errors
    /// [`CheckError::Activations`](crate::error::CheckError::Activations) when there is no batch,
    /// and when no layer reports its output, as tch's own cannot;
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode); [`Error::Torch`]; the
    /// errors of the trace.
    pub fn record<M: Prunable + ?Sized, X, Y>(
        net: &M,
        batches: impl IntoIterator<Item = X>,
        forward: impl Fn(&M, &X) -> Y,
    ) -> Result<Self> {
        let graph = analysis::trace(net, Masking::default())?;
        let (mut count, sums) = (0, Rc::new(RefCell::new(Sums::default())));
        surgery::observe(net, &graph, |net| {
            // Addresses are read here, because `observe` has moved the running statistics.
            let (places, layers) = (Places::of(&graph), names(&graph));
            let seen = Rc::clone(&sums);
            let observer = move |call: &LayerCall<'_>| {
                // A weight outside of the network, such as that of a teacher.
                let Some((layer, _)) = places.find(call.weight) else { return };
                let (path, kind) = &layers[layer];
                seen.borrow_mut().add(path, channel_dim(kind, call), call.output);
            };
            recorder::observe(observer, || {
                for batch in batches {
                    drop(forward(net, &batch));
                    count += 1;
                }
            });
        })?;
        let means = sums.take().means()?;
        if count == 0 {
            return Err(refused(
                "model",
                "no batch was given; give some hundred samples that are like those at inference",
            ));
        }
        if let (true, Some(layer)) =
            (means.is_empty(), graph.layers.iter().find(|layer| layer.ranked.is_some()))
        {
            return Err(refused(&layer.path, why_unobserved(layer)));
        }
        Ok(Self::new(means, count))
    }
}

fn refused(path: &str, reason: impl Into<String>) -> Error {
    Error::Check(CheckError::Activations { path: path.to_owned(), reason: reason.into() })
}

/// Path and kind of each layer.
fn names(graph: &Graph) -> Vec<(String, LayerKind)> {
    graph.layers.iter().map(|layer| (layer.path.clone(), layer.kind.clone())).collect()
}

/// The dimension of a layer's output that has the channels.
fn channel_dim(kind: &LayerKind, call: &LayerCall<'_>) -> usize {
    let rank = call.output.dim();
    match kind {
        LayerKind::BatchNorm => 1,
        LayerKind::Linear => rank.saturating_sub(1),
        // A convolution has two dimensions besides the sides of its kernel, and takes an image with
        // or without a batch dimension.
        _ => (rank + 1).saturating_sub(call.weight.dim()),
    }
}

/// What was recorded.
#[derive(Default)]
struct Sums {
    /// By path: the sums of the absolute outputs `[channels]`, and the number of values of each
    /// channel.
    layers: BTreeMap<String, (Tensor, i64)>,
    /// The first error, and the layer.
    error: Option<(String, TchError)>,
}

impl Sums {
    fn add(&mut self, path: &str, dim: usize, output: &Tensor) {
        let others: Vec<i64> =
            (0..output.dim()).filter(|&other| other != dim).map(|other| other as i64).collect();
        let add = || {
            let sizes = output.size();
            let values = others.iter().map(|&other| sizes[other as usize]).product::<i64>();
            let sizes = output.f_abs()?;
            let sums = match &others[..] {
                [] => sizes.f_to_kind(Kind::Double)?,
                others => sizes.f_sum_dim_intlist(others, false, Kind::Double)?,
            };
            Ok(match self.layers.get(path) {
                Some((before, count)) => (before.f_add(&sums)?, count + values),
                None => (sums, values),
            })
        };
        match add() {
            Ok(sums) => _ = self.layers.insert(path.to_owned(), sums),
            Err(error) => _ = self.error.get_or_insert((path.to_owned(), error)),
        }
    }

    fn means(self) -> Result<BTreeMap<String, Vec<f64>>> {
        if let Some((path, error)) = self.error {
            return Err(Error::torch(path)(error));
        }
        let mean = |(path, (sums, count)): (String, (Tensor, i64))| {
            let means = sums.f_div_scalar(count.max(1)).and_then(Vec::try_from);
            Ok((path.clone(), means.map_err(Error::torch(path))?))
        };
        self.layers.into_iter().map(mean).collect()
    }
}
