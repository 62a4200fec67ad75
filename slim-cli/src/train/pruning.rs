//! Pruning of a network while it is trained.

use anyhow::{Context, Result};
use slim_distributed::Distributed;
use slim_runtime::{GradualPruning, Plan, Prunable, Slimming};

use super::{Recipe, Resume};
use crate::model::Model;
use crate::network::Net;

const NO_PLAN: &str = "the checkpoint of training with --growing does not say which channels go";

/// Pruning while training.
pub(super) enum Pruning {
    /// Masks by a plan for the weights as they are, again and again.
    Gradual(GradualPruning),
    /// A penalty that grows, on the channels that a plan from before the first step removes.
    Growing(Plan),
}

impl Pruning {
    /// The recipe's pruning of a network, if any is left to do, for epochs of `steps` steps.
    /// Collective.
    ///
    /// # Errors
    /// A share that is not in [0, 1); a network from which no channel can be removed, or whose
    /// channels nothing tells apart yet; a process that does not answer.
    pub(super) fn new(
        dist: &Distributed,
        model: &Model,
        recipe: &Recipe,
        steps: usize,
        resume: Option<&Resume>,
    ) -> Result<Option<Self>> {
        let state = resume.map(|resume| &resume.state);
        let is_cut = state.is_some_and(|state| state.cut);
        let planned = state.and_then(|state| state.growing.as_ref());
        let Some(slimming) = recipe.slimming(model.spec.arch).filter(|_| !is_cut) else {
            return Ok(None);
        };
        if recipe.growing > 0. {
            let plan = match state {
                Some(_) => planned.cloned().context(NO_PLAN)?,
                None => chosen(dist, model, &slimming)?,
            };
            return Ok(Some(Self::Growing(plan)));
        }
        let schedule = recipe.gradual_schedule(steps);
        let gradual = GradualPruning::new(slimming, schedule, recipe.gradual_every as u64)?;
        // At ratio 0, before training, so that a network with nothing to prune is refused at once.
        let nothing = gradual.slimming_at(0);
        model.net.plan(&nothing).map_err(|error| model.explained(error))?;
        Ok(Some(Self::Gradual(gradual)))
    }

    /// The plan by which a penalty grows.
    pub(super) fn growing(&self) -> Option<&Plan> {
        match self {
            Self::Gradual(_) => None,
            Self::Growing(plan) => Some(plan),
        }
    }

    /// Masks the network where that is due after `done` steps.
    ///
    /// # Errors
    /// Weights by which nothing can be planned; errors of libtorch.
    pub(super) fn step(&self, net: &mut Net, done: u64) -> Result<()> {
        if let Self::Gradual(gradual) = self {
            gradual.step(net, done)?;
        }
        Ok(())
    }

    /// Removes what is to go, in all processes or in none. Collective.
    ///
    /// # Errors
    /// Weights by which nothing can be planned; a process that does not answer.
    pub(super) fn cut(&self, dist: &Distributed, model: &mut Model) -> Result<()> {
        let slimmed = match self {
            Self::Gradual(gradual) => dist.slim(&mut model.net, gradual.slimming())?,
            Self::Growing(plan) => dist.apply(&mut model.net, plan)?,
        };
        model.slimmed = Some(match &model.slimmed {
            Some(first) => first.then(&slimmed)?,
            None => slimmed,
        });
        Ok(())
    }
}

/// The plan of rank 0. Collective.
fn chosen(dist: &Distributed, model: &Model, slimming: &Slimming) -> Result<Plan> {
    let own = || -> Result<String> {
        if !dist.is_main() {
            return Ok(String::new());
        }
        Ok(model.net.plan(slimming).map_err(|error| model.explained(error))?.to_json()?)
    };
    let text = dist.together(own())?;
    Ok(Plan::from_json(&dist.from_main(|| Ok(text))?)?)
}
