//! Updates of a network's parameters in a step.

use anyhow::Result;
use slim_distributed::{DataParallel, DataParallelConfig, Distributed};
use slim_runtime::{Plan, Prunable, Regulariser, Schedule};

use super::Recipe;
use super::sgd::Sgd;
use crate::model::Model;

/// The optimizer, the averaging of gradients and the penalties, which belong to the parameters that
/// a network has: they are made anew when it is slimmed.
pub(super) struct Updates<'d> {
    pub(super) parallel: DataParallel<'d>,
    pub(super) sgd: Sgd,
    penalties: Vec<Penalty>,
}

struct Penalty {
    regulariser: Regulariser,
    factor: f64,
    schedule: Schedule,
    /// Whether it shrinks the parameters after the optimizer's step.
    is_proximal: bool,
}

impl<'d> Updates<'d> {
    /// Updates of a network, for epochs of `steps` steps, without momentum so far. A penalty grows
    /// on the channels that the plan `growing` removes. Collective.
    ///
    /// # Errors
    /// A network without parameters that a penalty is on; a plan of another network; a process that
    /// does not answer.
    pub(super) fn new(
        dist: &'d Distributed,
        model: &Model,
        recipe: &Recipe,
        steps: usize,
        growing: Option<&Plan>,
    ) -> Result<Self> {
        let mut penalties = Vec::new();
        if let Some(penalty) = recipe.penalty() {
            penalties.push(Penalty {
                regulariser: model.net.regulariser(penalty)?,
                factor: recipe.sparsity,
                schedule: recipe.penalty_schedule(steps),
                is_proximal: recipe.proximal,
            });
        }
        if let Some(plan) = growing {
            penalties.push(Penalty {
                regulariser: plan.regulariser(&model.net)?,
                factor: recipe.growing_factor,
                schedule: recipe.growing_schedule(steps),
                is_proximal: false,
            });
        }
        let config = DataParallelConfig::new().synchronised(true);
        Ok(Self {
            parallel: dist.data_parallel_with(&model.vs, config)?,
            sgd: Sgd::new(&model.vs, recipe),
            penalties,
        })
    }

    /// Updates the parameters by their gradients and the penalties. `done` is the number of steps
    /// before this one, over all epochs.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn step(&mut self, rate: f64, done: u64) -> Result<()> {
        let of = |is_proximal| {
            let due = self.penalties.iter().filter(move |it| it.is_proximal == is_proximal);
            due.map(|it| (&it.regulariser, it.factor * it.schedule.at(done)))
                .filter(|(_, factor)| *factor > 0.)
        };
        for (regulariser, factor) in of(false) {
            regulariser.add_gradient(factor)?;
        }
        self.sgd.step(rate)?;
        for (regulariser, factor) in of(true) {
            regulariser.shrink(rate * factor)?;
        }
        Ok(())
    }
}
