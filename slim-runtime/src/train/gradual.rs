//! Gradual pruning: masks that grow while training, and a cut at the end.

use crate::analysis;
use crate::error::SelectionError;
use crate::plan::{Plan, Slimmed};
use crate::slimming::{Slimming, Target};
use crate::train::schedule::Schedule;
use crate::{Error, Prunable, Result, select, surgery};

/// Prunes while training: every `k` steps it sets the channels that a new plan removes to zero, and
/// at the end it removes them (He et al., "Soft Filter Pruning for Accelerating Deep Convolutional
/// Neural Networks", IJCAI 2018). The ratio of the plans is that of the slimming, times a
/// [`Schedule`].
///
/// Between two plans all channels are trained, so a masked channel may grow back; the next plan
/// scores all channels as they are then. Its γ and β are 0 (or the parameters that the criterion
/// [masks](Slimming::masking)), and so is what it sends on. Where the activation behind it passes
/// gradients at 0, as SiLU does, or the channel is added to others, γ and β have gradients, and any
/// optimizer brings the channel back. The gradient of ReLU at 0 is 0, and a filter and a γ that are
/// both 0 have no gradients either: there the channel leaves 0 by the momentum that an optimizer
/// has from the steps before, and without momentum it stays masked.
///
/// What a step does depends on the number of the step and on the weights alone, so training that
/// resumes from a checkpoint ends with the weights of training that was not interrupted. In several
/// processes with the same weights, the masks are the same.
///
/// ```
/// use slim_runtime::{GradualPruning, Prunable, Schedule, Slimming, model, nn};
/// use tch::nn::{ModuleT, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(8);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(8 => 10);
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, 0.1).unwrap();
/// // From 0 to half of the channels in 20 steps; new masks every 5 steps.
/// let gradual = GradualPruning::new(Slimming::ratio(0.5), Schedule::constant().cubic_ramp(20), 5)?;
/// # let (images, labels) = (Tensor::randn([4, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::zeros([4], (Kind::Int64, Device::Cpu)));
/// for step in 1..=30 {
///     optimizer.zero_grad();
///     net.forward_t(&images, true).cross_entropy_for_logits(&labels).backward();
///     optimizer.step();
///     gradual.step(&mut net, step)?;
/// }
/// let slimmed = gradual.finish(&mut net)?;
/// assert_eq!(slimmed.plan().channels().after, 3);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GradualPruning {
    slimming: Slimming,
    schedule: Schedule,
    every: u64,
}

impl GradualPruning {
    /// `slimming` is what is removed in the end; its target is a [ratio](Slimming::ratio), and so
    /// are those of [`layers`](Slimming::layers). `schedule` counts steps of the optimizer, and
    /// `every` is the number of steps from one plan to the next.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for another target, and
    /// for plans every 0 steps; those of an invalid `slimming` in
    /// [`Prunable::plan`](crate::Prunable::plan).
    pub fn new(slimming: Slimming, schedule: Schedule, every: u64) -> Result<Self> {
        slimming.check()?;
        let refused = |reason| Err(Error::Selection(SelectionError::Slimming { reason }));
        let targets = slimming.layers.iter().map(|(_, target)| target);
        let other = [&slimming.target]
            .into_iter()
            .chain(targets)
            .find(|it| !matches!(it, Target::Ratio(_)));
        if let Some(target) = other {
            return refused(format!(
                "gradual pruning multiplies ratios by a schedule, and cannot do so with {target}; use ratios, `Slimming::ratio(0.5)`"
            ));
        }
        if every == 0 {
            return refused("gradual pruning plans every 0 steps; give at least 1".to_owned());
        }
        Ok(Self { slimming, schedule, every })
    }

    /// What is removed in the end. [`finish`](Self::finish) plans by it; several processes slim by
    /// it together.
    pub fn slimming(&self) -> &Slimming {
        &self.slimming
    }

    /// What is masked after `step` steps: the slimming with its ratios times the schedule.
    pub fn slimming_at(&self, step: u64) -> Slimming {
        let share = self.schedule.at(step);
        let mut slimming = self.slimming.clone();
        let targets = slimming.layers.iter_mut().map(|(_, target)| target);
        for target in targets.chain([&mut slimming.target]) {
            if let Target::Ratio(ratio) = target {
                *ratio *= share;
            }
        }
        slimming
    }

    /// Call it after each step of the optimizer. `step` is the number of steps that are done, 1
    /// after the first. If it is a multiple of `every`, plans for the weights as they are, [masks
    /// the model](crate::Prunable::mask), and returns the plan.
    ///
    /// `None` if nothing is due: between two plans, while the schedule is at 0, and while all
    /// scores of the network are equal, as before training, so that nothing tells the channels
    /// apart.
    ///
    /// # Errors
    /// Those of [`Prunable::plan`](crate::Prunable::plan), such as for equal scores in a layer that
    /// is ranked by itself, and of
    /// [`Prunable::mask`](crate::Prunable::mask). The model is then unchanged.
    pub fn step<M: Prunable + ?Sized>(&self, model: &mut M, step: u64) -> Result<Option<Plan>> {
        // At 0 no bound removes a channel, such as a number that is rounded down.
        if !step.is_multiple_of(self.every) || self.schedule.at(step) == 0. {
            return Ok(None);
        }
        let slimming = self.slimming_at(step);
        let graph = analysis::trace(model, slimming.zeroed())?;
        let plan = match select::plan(&graph, &slimming) {
            Err(Error::Selection(SelectionError::NoRanking { layer: None, .. })) => {
                return Ok(None);
            }
            planned => planned?,
        };
        surgery::mask(model, &graph, &plan)?;
        Ok(Some(plan))
    }

    /// Plans for the weights as they are, at the full ratios whatever the schedule says, and
    /// removes the channels: [`Prunable::apply`](crate::Prunable::apply). Build a new optimizer
    /// afterwards.
    ///
    /// # Errors
    /// Those of [`Prunable::plan`](crate::Prunable::plan), also for equal scores, and of
    /// [`Prunable::apply`](crate::Prunable::apply). The model is then unchanged.
    pub fn finish<M: Prunable + ?Sized>(&self, model: &mut M) -> Result<Slimmed> {
        let graph = analysis::trace(model, self.slimming.zeroed())?;
        let plan = select::plan(&graph, &self.slimming)?;
        surgery::apply(model, &graph, &plan)
    }
}
