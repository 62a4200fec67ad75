//! Whether a model is the dense network that a plan was made for, or the slim one that it leaves.

use tch::nn::VarStore;

use super::matching;
use crate::analysis::{self, Graph};
use crate::error::PlanError;
use crate::plan::{Plan, Variables, outline};
use crate::{Error, Prunable, Result};

/// Whether the plan has been applied to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The network that the plan was made for.
    Dense,
    /// The network that the plan leaves.
    Slim,
}

/// The first difference of a model from each of the two networks.
pub(crate) struct Misfit {
    pub(crate) dense: String,
    pub(crate) slim: String,
}

/// # Errors
/// When the model is neither.
pub(crate) fn fit(graph: &Graph, plan: &Plan) -> std::result::Result<Fit, Misfit> {
    // If a plan removes nothing, the two networks are the same, and there is nothing to do.
    let Some(slim) = slim_difference(graph, plan, "the model") else { return Ok(Fit::Slim) };
    match matching::difference(graph, plan, "the model") {
        None => Ok(Fit::Dense),
        Some(dense) => Err(Misfit { dense, slim }),
    }
}

/// The first difference of a model from the network that a plan leaves.
pub(super) fn slim_difference(graph: &Graph, plan: &Plan, model: &str) -> Option<String> {
    outline::difference(
        &matching::outlines(graph),
        &plan.outlines_after(),
        [model, "what the plan leaves"],
    )
}

impl Plan {
    /// The plan with the names that the store has for the model's tensors, for
    /// [`tensors`](Self::tensors) and for `plan.json`. The model may be dense or slimmed.
    ///
    /// Names do not affect what stays: plans are equal, and apply, whatever names they carry.
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Slimming};
    /// # use tch::nn;
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
    /// # let vs = nn::VarStore::new(tch::Device::Cpu);
    /// # let p = &vs.root();
    /// # let net = Net {
    /// #     conv: nn::conv2d(p / "features" / 0, 3, 8, 3, Default::default()),
    /// #     bn: nn::batch_norm2d(p / "features" / 1, 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
    /// # };
    /// let plan = net.plan(&Slimming::ratio(0.5))?.with_variables(&net, &vs)?;
    /// assert_eq!(plan.tensors().next(), Some(("conv.weight".to_owned(), Some("features.0.weight"))));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the plan is for another
    /// network; those of [`Prunable::trace`].
    pub fn with_variables<M: Prunable + ?Sized>(&self, model: &M, vs: &VarStore) -> Result<Plan> {
        let graph = analysis::trace(model, self.masking())?;
        fit(&graph, self)
            .map_err(|misfit| Error::Plan(PlanError::Mismatch { difference: misfit.dense }))?;
        let variables = Variables::new(vs);
        let mut plan = self.clone();
        for (layer, node) in plan.layers.iter_mut().zip(&graph.layers) {
            for (tensor, bound) in layer.tensors.iter_mut().zip(&node.tensors) {
                tensor.variable = variables.name(&bound.tensor).map(str::to_owned);
            }
        }
        Ok(plan)
    }
}
