//! The masked network, for as long as somebody looks.

use super::Plan;
use crate::surgery::{Form, temporarily};
use crate::{Prunable, Result, planner};

impl Plan {
    /// What `look` says of the model while the channels that this plan removes are [masked](Prunable::mask), to measure what slimming costs before fine-tuning.
    ///
    /// `look` runs the model in evaluation mode, without gradients. Whatever happens, the model is then as it was, to the bit.
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
    /// [`Error::TrainingMode`](crate::Error::TrainingMode) when `look` runs the model in training mode; those of [`Prunable::mask`].
    ///
    /// # Panics
    /// When `look` does.
    pub fn masked<M: Prunable + ?Sized, T>(
        &self,
        model: &mut M,
        look: impl FnOnce(&M) -> T,
    ) -> Result<T> {
        let graph = planner::trace(model, self.masking())?;
        temporarily(model, &graph, self, Form::Masked, look)
    }
}
