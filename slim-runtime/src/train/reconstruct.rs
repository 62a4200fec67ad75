//! Least-squares reconstruction: gives layers that lose inputs the weights with which they compute
//! most nearly what they computed before.

mod consumers;
mod moments;

use std::fmt;

use tch::{Kind, TchError, Tensor};

use crate::analysis;
use crate::error::{ArgumentError, CheckError};
use crate::plan::{Plan, Slimmed, without_absorption};
use crate::surgery::{self, ModelState, Value};
use crate::table::percent;
use crate::{Error, Prunable, Result};
use consumers::{Consumer, consumers};
use moments::Solution;

/// Slims a model, and solves the weights of each layer that loses inputs anew, from a few batches,
/// so that its output is nearest to what it was in the dense network (He et al., "Channel Pruning
/// for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1).
///
/// For a layer with the weight `W`, of which the columns of the inputs that stay are `W'`, let `Y`
/// be its output in the dense network, and `X` its inputs that stay, in the network that is slimmed
/// and solved up to this layer; of a convolution, the windows that the kernel covers. The new
/// weight is
///
/// `W' + argmin_Δ ‖Y − (W' + Δ) X‖² + λ ‖Δ‖²`, with `λ = ridge · tr(X Xᵀ) / columns`,
///
/// in closed form, in double precision. A layer with a bias, or with a batch norm directly and
/// alone behind it, is also given the constant that fits best, in the bias or the running mean: `X`
/// and `Y` then stand for their differences from their means. This includes what
/// [absorption](crate::Slimming::absorb) does, which it replaces. Since `Δ = 0` is a candidate, the
/// residual `‖Y − …‖` of a layer never grows.
///
/// Layers are solved in the order of the data flow. Those that are not are in
/// [`Reconstructed::left`], with the reason: grouped and transposed convolutions, attention,
/// recurrent layers, weights that are used in several places, and layers of tch, which do not
/// report what they read. Statistics of batch norms behind other layers stay as they are;
/// [`recalibrate`](crate::recalibrate) afterwards. Some hundred samples are enough if they are like
/// those at inference.
///
/// ```
/// use slim_runtime::{Prunable, Reconstruction, Slimming, model, nn};
/// use tch::nn::ModuleT;
/// use tch::{Device, Kind, Tensor};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv1 = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
///         bn1 = batch_norm(16);
///         relu;
///         conv2 = conv2d(16 => 16, kernel = 3, padding = 1, bias = false);
///         bn2 = batch_norm(16);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(16 => 10);
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// let plan = net.plan(&Slimming::ratio(0.5))?;
/// let batches: Vec<_> =
///     (0..4).map(|_| Tensor::randn([16, 3, 8, 8], (Kind::Float, Device::Cpu))).collect();
/// let done = Reconstruction::new()
///     .apply(&mut net, &plan, &batches, |net, images| net.forward_t(images, false))?;
/// assert_eq!(done.layers[0].path, "conv2");
/// assert!(done.layers[0].after <= done.layers[0].before);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reconstruction {
    ridge: f64,
}

/// The ridge term by default: large enough for inputs that nearly repeat each other.
const RIDGE: f64 = 1e-3;

impl Default for Reconstruction {
    fn default() -> Self {
        Self { ridge: RIDGE }
    }
}

impl Reconstruction {
    /// A reconstruction with a ridge term of 0.001.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the ridge term, in units of the sum of squares of an input over all rows, on average
    /// over the columns; 0 for plain least squares. The larger it is, the nearer the new weights
    /// are to the old.
    #[must_use]
    pub fn ridge(self, ridge: f64) -> Self {
        Self { ridge }
    }

    /// Applies a plan and reconstructs, in one transaction. `forward` runs the model on a batch in
    /// evaluation mode; it is called twice for each batch and each layer.
    ///
    /// # Errors
    /// [`ArgumentError::Ridge`]; [`CheckError::Reconstruction`] when there is no batch, when no
    /// layer can be solved, when a value is not finite, and when `forward` runs other layers on
    /// each call; [`CheckError::TrainingMode`]; those of [`Prunable::apply`]. The model is then
    /// unchanged, to the bit.
    pub fn apply<M: Prunable + ?Sized, X, Y>(
        self,
        model: &mut M,
        plan: &Plan,
        batches: &[X],
        forward: impl Fn(&M, &X) -> Y,
    ) -> Result<Reconstructed> {
        if !(self.ridge.is_finite() && self.ridge >= 0.) {
            return Err(Error::Argument(ArgumentError::Ridge(self.ridge)));
        }
        if batches.is_empty() {
            let reason = "no batch was given; give some hundred samples that are like those at inference, and are preprocessed like them";
            return Err(refused("model", reason));
        }
        // The constants of removed channels are a part of what is solved.
        let plan = without_absorption(plan);
        let graph = analysis::trace(model, plan.masking())?;
        surgery::check(&graph, &plan)?;
        let (consumers, mut left) = consumers(&graph, &plan)?;
        let mut progress = Progress { solved: Vec::new() };
        let mut layers = Vec::new();
        for consumer in &consumers {
            let path = consumer.path();
            let targets = surgery::observe(model, &graph, |model| {
                consumer.outputs(model, batches, &forward)
            })??;
            if targets.is_empty() {
                let reason = "no call of it was reported: `forward` does not run it in evaluation mode, or runs it in its own code";
                left.push(LeftLayer { path: path.to_owned(), reason: reason.to_owned() });
                continue;
            }
            let state = ModelState::Corrected(progress.values()?);
            let moments = surgery::temporarily(model, &graph, &plan, state, |model| {
                consumer.moments(model, batches, targets, &forward)
            })??;
            let Some(solution) = moments
                .solve(self.ridge, consumer.intercept.is_some())
                .map_err(Error::torch(path))?
            else {
                let reason = "its inputs or outputs are not finite on these batches; look for NaN or infinity in the data and the weights";
                return Err(refused(path, reason));
            };
            let of_output = |squares: f64| (squares / moments.outputs()).max(0.).sqrt();
            layers.push(ReconstructedLayer {
                path: path.to_owned(),
                before: of_output(moments.residual()),
                after: of_output(solution.residual),
            });
            progress.add(consumer, &solution).map_err(Error::torch(path))?;
        }
        if let (true, Some(LeftLayer { path, reason })) = (layers.is_empty(), left.first()) {
            return Err(refused(path, format!("{reason}; no other layer can be solved either")));
        }
        let values = progress.narrowed()?;
        let slimmed = surgery::apply_with(model, &graph, &plan, values)?;
        Ok(Reconstructed { slimmed, layers, left })
    }
}

/// A slimmed model whose layers were reconstructed. Prints as a list of layers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reconstructed {
    /// What was removed.
    pub slimmed: Slimmed,
    /// The layers that were solved anew, in the order of the data flow.
    pub layers: Vec<ReconstructedLayer>,
    /// The layers that lost inputs, and keep the weights of the inputs that stay.
    pub left: Vec<LeftLayer>,
}

/// A layer whose weights were solved anew.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReconstructedLayer {
    /// Field path of the layer.
    pub path: String,
    /// The distance of its output from that in the dense network, `‖Y − Y'‖ / ‖Y‖`, with the old
    /// weights, in a network that is solved up to this layer.
    pub before: f64,
    /// The same with the new weights. Never larger.
    pub after: f64,
}

/// A layer that lost inputs, and was not solved anew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftLayer {
    /// Field path of the layer.
    pub path: String,
    /// Why, and the fix if there is one.
    pub reason: String,
}

impl fmt::Display for Reconstructed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ReconstructedLayer { path, before, after } in &self.layers {
            writeln!(f, "{path}: output {} off, now {}", percent(*before), percent(*after))?;
        }
        self.left
            .iter()
            .try_for_each(|LeftLayer { path, reason }| writeln!(f, "{path}: left, {reason}"))
    }
}

fn refused(path: &str, reason: impl Into<String>) -> Error {
    Error::Check(CheckError::Reconstruction { path: path.to_owned(), reason: reason.into() })
}

/// The tensors that have new values so far, in the shapes of the dense network.
struct Progress {
    solved: Vec<Solved>,
}

struct Solved {
    name: String,
    target: Tensor,
    value: Tensor,
    /// The positions of each of the first dimensions that stay.
    keep: Vec<Tensor>,
}

impl Progress {
    /// Adds a solution. No tensor is solved twice.
    fn add(&mut self, consumer: &Consumer<'_>, solution: &Solution) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        let weight = consumer.weight();
        let whole = weight.f_detach()?;
        let kept = consumer.kept(&whole)?;
        // [columns, outputs] as the weight has it.
        let change = solution.change.f_transpose(0, 1)?.f_reshape(kept.size())?;
        let new = kept.f_to_kind(Kind::Double)?.f_add(&change)?.f_to_kind(whole.kind())?;
        // Channels that go make nothing, also where masking sets their weights to zero.
        let value = whole.f_zeros_like()?;
        let columns =
            whole.f_index_select(0, &consumer.out)?.f_index_copy(1, &consumer.inputs, &new)?;
        let value = value.f_index_copy(0, &consumer.out, &columns)?;
        let keep = vec![consumer.out.shallow_clone(), consumer.inputs.shallow_clone()];
        self.solved.push(Solved {
            name: consumer.tensor_name(),
            target: weight.shallow_clone(),
            value,
            keep,
        });
        if let (Some(into), Some(constant)) = (&consumer.intercept, &solution.constant) {
            let whole = into.tensor.f_detach()?;
            let kept = whole.f_index_select(0, &consumer.out)?.f_to_kind(Kind::Double)?;
            // A batch norm subtracts its running mean.
            let new = if into.is_bias { kept.f_add(constant)? } else { kept.f_sub(constant)? };
            let whole = if into.is_bias { whole.f_zeros_like()? } else { whole };
            let value = whole.f_index_copy(0, &consumer.out, &new.f_to_kind(whole.kind())?)?;
            self.solved.push(Solved {
                name: into.name.clone(),
                target: into.tensor.shallow_clone(),
                value,
                keep: vec![consumer.out.shallow_clone()],
            });
        }
        Ok(())
    }

    /// Copies of all new values, in the shapes of the dense network.
    fn values(&self) -> Result<Vec<Value>> {
        let value = |solved: &Solved| {
            let value = solved.value.f_detach_copy().map_err(Error::torch(&solved.name))?;
            Ok(Value { name: solved.name.clone(), target: solved.target.shallow_clone(), value })
        };
        self.solved.iter().map(value).collect()
    }

    /// All new values, in the shapes of the slimmed network.
    fn narrowed(self) -> Result<Vec<Value>> {
        let _no_grad = tch::no_grad_guard();
        let value = |Solved { name, target, value, keep }: Solved| {
            let select =
                |value: Tensor, (dim, keep): (i64, &Tensor)| value.f_index_select(dim, keep);
            let value = (0..).zip(&keep).try_fold(value, select).map_err(Error::torch(&name))?;
            Ok(Value { name, target, value })
        };
        self.solved.into_iter().map(value).collect()
    }
}
