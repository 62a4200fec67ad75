//! The way back: a slimmed network's weights in the shapes of the original.

use super::Plan;
use crate::{Prunable, Result, planner, surgery};

impl Plan {
    /// Gives a model that is as wide as the original the values of the slimmed one, at the positions that stay, and zeros elsewhere.
    ///
    /// In evaluation mode `dense` then computes what `slim` does, for activations that map zero to zero: it is the masked network, with the slimmed one's weights of today.
    /// So a network that was slimmed and fine-tuned runs where the original's shapes are asked for, or grows on from there. Applied to it, the plan gives `slim` back, to the bit.
    ///
    /// Values are converted to the kind and device of `dense`. Variables that no layer binds, and gradients, are left alone, and so is the stored order of a shuffle.
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
    /// [`Error::PlanMismatch`](crate::Error::PlanMismatch) with the first difference when `slim` is not what the plan leaves or `dense` not what it was made for;
    /// [`Error::Torch`](crate::Error::Torch) when memory runs out. `dense` is then as it was.
    pub fn expand<S: Prunable + ?Sized, D: Prunable + ?Sized>(
        &self,
        slim: &S,
        dense: &mut D,
    ) -> Result<()> {
        surgery::expand(
            &planner::trace(slim, self.masking())?,
            &planner::trace(dense, self.masking())?,
            self,
        )
    }
}
