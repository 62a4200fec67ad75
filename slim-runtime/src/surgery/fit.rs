//! Which of a plan's two networks a model is: the one that it was made for, or the one that it leaves.

use super::matching;
use crate::analysis::Graph;
use crate::plan::{Plan, outline};

/// Where a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// As the plan found it.
    Dense,
    /// As the plan leaves it.
    Slim,
}

/// The first difference from each of the two networks.
pub(crate) struct Misfit {
    pub(crate) dense: String,
    pub(crate) slim: String,
}

/// # Errors
/// Where it is neither.
pub(crate) fn fit(graph: &Graph, plan: &Plan) -> Result<Fit, Misfit> {
    // Of a plan that removes nothing the two are one, and there is nothing to do.
    let Some(slim) = slim_difference(graph, plan, "the model") else { return Ok(Fit::Slim) };
    match matching::difference(graph, plan, "the model") {
        None => Ok(Fit::Dense),
        Some(dense) => Err(Misfit { dense, slim }),
    }
}

/// What keeps a model from being what a plan leaves.
pub(super) fn slim_difference(graph: &Graph, plan: &Plan, model: &str) -> Option<String> {
    outline::difference(
        &matching::outlines(graph),
        &plan.outlines_after(),
        [model, "what the plan leaves"],
    )
}
