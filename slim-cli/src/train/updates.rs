//! What updates a network's parameters, and what prunes it while it is trained.

use anyhow::Result;
use slim_distributed::{DataParallel, DataParallelConfig, Distributed};
use slim_runtime::{GradualPruning, Prunable, Regulariser, Schedule};

use super::Recipe;
use super::sgd::Sgd;
use crate::model::Model;

/// The optimizer, the averaging of gradients and the penalty, which belong to the parameters that a
/// network has: they are made anew when it is slimmed.
pub(super) struct Updates<'d> {
    pub(super) parallel: DataParallel<'d>,
    pub(super) sgd: Sgd,
    penalty: Option<Penalty>,
}

struct Penalty {
    regulariser: Regulariser,
    factor: f64,
    schedule: Schedule,
    /// Whether it shrinks the parameters after the optimizer's step.
    is_proximal: bool,
}

impl<'d> Updates<'d> {
    /// Updates of a network, for epochs of `steps` steps, without momentum so far. Collective.
    ///
    /// # Errors
    /// A network without parameters that the penalty is on; a process that does not answer.
    pub(super) fn new(
        dist: &'d Distributed,
        model: &Model,
        recipe: &Recipe,
        steps: usize,
    ) -> Result<Self> {
        let penalty = recipe.penalty().map(|penalty| -> Result<_> {
            Ok(Penalty {
                regulariser: model.net.regulariser(penalty)?,
                factor: recipe.sparsity,
                schedule: recipe.penalty_schedule(steps),
                is_proximal: recipe.proximal,
            })
        });
        let config = DataParallelConfig::new().synchronised(true);
        Ok(Self {
            parallel: dist.data_parallel_with(&model.vs, config)?,
            sgd: Sgd::new(&model.vs, recipe),
            penalty: penalty.transpose()?,
        })
    }

    /// Updates the parameters by their gradients and the penalty. `done` is the number of steps
    /// before this one, over all epochs.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn step(&mut self, rate: f64, done: u64) -> Result<()> {
        let Some(Penalty { regulariser, factor, schedule, is_proximal }) = &self.penalty else {
            return self.sgd.step(rate);
        };
        let factor = factor * schedule.at(done);
        if factor > 0. && !is_proximal {
            regulariser.add_gradient(factor)?;
        }
        self.sgd.step(rate)?;
        if factor > 0. && *is_proximal {
            regulariser.shrink(rate * factor)?;
        }
        Ok(())
    }
}

/// The recipe's gradual pruning of a network, if it asks for it, for epochs of `steps` steps.
///
/// # Errors
/// A share that is not in [0, 1); a network from which no channel can be removed.
pub(super) fn gradual(
    model: &Model,
    recipe: &Recipe,
    steps: usize,
) -> Result<Option<GradualPruning>> {
    let Some(slimming) = recipe.gradual_slimming(model.spec.arch) else { return Ok(None) };
    let schedule = recipe.gradual_schedule(steps);
    let gradual = GradualPruning::new(slimming, schedule, recipe.gradual_every as u64)?;
    // At ratio 0, before training, so that a network with nothing to prune is refused at once.
    let nothing = gradual.slimming_at(0);
    model.net.plan(&nothing).map_err(|error| model.explained(error))?;
    Ok(Some(gradual))
}

/// Removes what gradual pruning ends with, in all processes or in none. Collective.
///
/// # Errors
/// Weights by which nothing can be planned; a process that does not answer.
pub(super) fn cut(dist: &Distributed, model: &mut Model, gradual: &GradualPruning) -> Result<()> {
    let slimmed = dist.slim(&mut model.net, gradual.slimming())?;
    model.slimmed = Some(match &model.slimmed {
        Some(first) => first.then(&slimmed)?,
        None => slimmed,
    });
    Ok(())
}
