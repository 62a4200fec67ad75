//! Trials: a closure runs on the model as a plan leaves it, and then everything is put back.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::{TchError, Tensor};

use super::mask;
use super::swap::{Swaps, Value};
use super::transaction::Transaction;
use crate::analysis::{self, Graph};
use crate::error::CheckError;
use crate::graph::Role;
use crate::plan::Plan;
use crate::{Error, Prunable, Result};

/// The form of a model during a trial.
pub(crate) enum ModelState {
    /// γ and β of the removed channels are zero.
    Masked,
    /// γ of the removed channels are zero, and β are kept: with absorption, the slimmed network
    /// must compute the same.
    Scaled,
    /// Masked, and tensors have new values, in the shapes of the dense network.
    Corrected(Vec<Value>),
    /// The removed channels are gone.
    Slimmed,
}

/// Runs `body` on the model in this form, without gradients. The model is restored afterwards, also
/// after an error or a panic.
///
/// # Errors
/// Those of [`apply`](super::apply) and [`observe`].
///
/// # Panics
/// When `body` panics.
pub(crate) fn temporarily<M: Prunable + ?Sized, T>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
    form: ModelState,
    body: impl FnOnce(&M) -> T,
) -> Result<T> {
    let mut transaction = match form {
        ModelState::Masked => Transaction::masking_for_a_trial(graph, plan, mask::What::All)?,
        ModelState::Scaled => Transaction::masking_for_a_trial(graph, plan, mask::What::Scales)?,
        ModelState::Corrected(values) => {
            Transaction::masking_for_a_trial(graph, plan, mask::What::All)?.exchanging(values)?
        }
        ModelState::Slimmed => Transaction::slimming(model, graph, plan, Vec::new())?,
    };
    transaction.commit(model)?;
    let seen = catch_unwind(AssertUnwindSafe(|| observe(model, graph, body)));
    transaction.roll_back(model);
    seen.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs `body` on the model, without gradients and on copies of its running statistics, because a
/// forward pass in training mode would change them.
///
/// # Errors
/// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode) when `body` changed the
/// statistics; [`Error::Torch`].
///
/// # Panics
/// When `body` panics.
pub(crate) fn observe<M: ?Sized, T>(
    model: &M,
    graph: &Graph,
    body: impl FnOnce(&M) -> T,
) -> Result<T> {
    let _no_grad = tch::no_grad_guard();
    let mut copies = Swaps::default();
    for node in &graph.layers {
        for bound in
            node.tensors.iter().filter(|bound| bound.role == Role::Buffer && bound.tied.is_none())
        {
            copies.add(&format!("{}.{}", node.path, bound.name), &bound.tensor, copy)?;
        }
    }
    let seen = catch_unwind(AssertUnwindSafe(|| {
        copies.commit()?;
        let seen = body(model);
        match copies.first_changed()? {
            None => Ok(seen),
            Some(tensor) => {
                Err(Error::Check(CheckError::TrainingMode { tensor: tensor.to_owned() }))
            }
        }
    }));
    copies.roll_back();
    seen.unwrap_or_else(|panic| resume_unwind(panic))
}

fn copy(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut copy = Tensor::f_empty_like(tensor)?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

impl Plan {
    /// Runs `look` on the model while the channels that this plan removes are
    /// [masked](Prunable::mask), to measure what slimming costs before fine-tuning. Returns what
    /// `look` returns.
    ///
    /// `look` runs the model in evaluation mode, without gradients. The model is restored
    /// afterwards, to the bit, also after an error or a panic.
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Slimming};
    /// # use tch::{Device, Kind, Tensor, nn::{self, ModuleT}};
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
    /// # impl ModuleT for Net {
    /// #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
    /// #         xs.apply(&self.conv).apply_t(&self.bn, train).relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
    /// #     }
    /// # }
    /// # let vs = nn::VarStore::new(Device::Cpu);
    /// # let p = &vs.root();
    /// # let mut net = Net {
    /// #     conv: nn::conv2d(p / "conv", 3, 8, 3, Default::default()),
    /// #     bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
    /// # };
    /// # let images = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    /// let plan = net.plan(&Slimming::ratio(0.5))?;
    /// let masked = plan.masked(&mut net, |net| net.forward_t(&images, false))?;
    /// net.apply(&plan)?;
    /// assert!(net.forward_t(&images, false).allclose(&masked, 1e-4, 1e-6, false));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode) when `look` runs the
    /// model in training mode; those of [`Prunable::mask`].
    ///
    /// # Panics
    /// When `look` panics.
    pub fn masked<M: Prunable + ?Sized, T>(
        &self,
        model: &mut M,
        look: impl FnOnce(&M) -> T,
    ) -> Result<T> {
        let graph = analysis::trace(model, self.masking())?;
        temporarily(model, &graph, self, ModelState::Masked, look)
    }
}
