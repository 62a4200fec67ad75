//! The inverse of selection: puts values at the positions that stay, and zeros elsewhere.

use tch::{TchError, Tensor};

use super::fit::slim_difference;
use super::matching;
use super::swap::{Value, replace};
use crate::analysis::{self, Graph};
use crate::error::PlanError;
use crate::graph::KeepList;
use crate::plan::Plan;
use crate::{Error, Prunable, Result};

pub(crate) fn expand(slim: &Graph, dense: &Graph, plan: &Plan) -> Result<()> {
    let difference = slim_difference(slim, plan, "the slim model")
        .or_else(|| matching::difference(dense, plan, "the dense model"));
    if let Some(difference) = difference {
        return Err(Error::Plan(PlanError::Mismatch { difference }));
    }
    let _no_grad = tch::no_grad_guard();
    let mut values = Vec::new();
    for ((narrow, wide), layer) in slim.layers.iter().zip(&dense.layers).zip(&plan.layers) {
        for (from, to) in
            narrow.tensors.iter().zip(&wide.tensors).filter(|(_, to)| to.tied.is_none())
        {
            let name = format!("{}.{}", wide.path, to.name);
            let kept = to.axes.iter().map(|axis| axis.map(|axis| &layer.axes[axis].keep));
            let value = spread(&from.tensor, &to.tensor, kept).map_err(Error::torch(&name))?;
            values.push(Value { name, target: to.tensor.shallow_clone(), value });
        }
    }
    replace(values)
}

/// A tensor of the size of `wide` with the values of `narrow` at the positions that `kept` lists
/// per dimension, and zeros elsewhere.
fn spread<'k>(
    narrow: &Tensor,
    wide: &Tensor,
    kept: impl Iterator<Item = Option<&'k KeepList>>,
) -> Result<Tensor, TchError> {
    // A copy, so that later changes of the slim model's tensors do not affect it.
    let mut value = narrow
        .f_detach()?
        .f_to_device(wide.device())?
        .f_to_kind(wide.f_kind()?)?
        .f_detach_copy()?;
    for (dim, kept) in kept.enumerate() {
        let mut size = value.size();
        let Some(kept) = kept.filter(|_| size[dim] < wide.size()[dim]) else { continue };
        size[dim] = wide.size()[dim];
        let positions: Vec<_> = kept.iter().map(|position| position as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(wide.device())?;
        value = Tensor::f_zeros(&size, (value.f_kind()?, wide.device()))?
            .f_index_copy(dim as i64, &positions, &value)?;
    }
    Ok(value)
}

impl Plan {
    /// Copies the values of the slimmed model into a model as wide as the original: at the
    /// positions that stay, with zeros elsewhere.
    ///
    /// In evaluation mode `dense` then computes what `slim` computes, for activations that map zero
    /// to zero: it is the masked network with the current weights of the slimmed one. So a network
    /// that was slimmed and fine-tuned can run where the original shapes are required, or can be
    /// trained further at full width. Applying the plan to it gives `slim` back, to the bit.
    ///
    /// Values are converted to the kind and device of `dense`. Variables that no layer binds,
    /// gradients, and the stored order of a shuffle are left alone.
    ///
    /// ```
    /// # use slim_runtime::Prunable;
    /// # use tch::nn;
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
    /// # impl Net { fn new(p: &nn::Path) -> Net { Net {
    /// #     conv: nn::conv2d(p / "conv", 3, 8, 3, Default::default()), bn: nn::batch_norm2d(p / "bn", 8, Default::default()), fc: nn::linear(p / "fc", 8, 10, Default::default()) } } }
    /// # let (slim_vs, dense_vs) = (nn::VarStore::new(tch::Device::Cpu), nn::VarStore::new(tch::Device::Cpu));
    /// let mut slim = Net::new(&slim_vs.root());
    /// let slimmed = slim.slim(0.5)?;
    /// let mut dense = Net::new(&dense_vs.root());
    /// slimmed.plan().expand(&slim, &mut dense)?;
    /// assert_eq!(dense.conv.ws.size(), [8, 3, 3, 3]);
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) with the first difference when
    /// `slim` does not match what the plan leaves, or `dense` does not match what the plan was made
    /// for; [`Error::Torch`](crate::Error::Torch) when memory runs out. `dense` is unchanged then.
    pub fn expand<S: Prunable + ?Sized, D: Prunable + ?Sized>(
        &self,
        slim: &S,
        dense: &mut D,
    ) -> Result<()> {
        expand(
            &analysis::trace(slim, self.masking())?,
            &analysis::trace(dense, self.masking())?,
            self,
        )
    }
}
