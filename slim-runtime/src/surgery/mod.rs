//! Carrying out a plan: every new tensor first, then the commit, and back again if anything disagrees.

mod mask;
mod matching;
mod states;
mod swap;
#[cfg(test)]
mod tests;
mod transaction;
mod trial;

use crate::plan::{Plan, Slimmed};
use crate::tracer::Graph;
use crate::{Prunable, Result};
pub use states::LayerVisitor;
use transaction::Transaction;
pub(crate) use trial::{Form, temporarily};

/// Selects, in every bound dimension of every tensor, the positions that stay.
pub(crate) fn apply<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<Slimmed> {
    Transaction::slimming(model, graph, plan)?.commit(model)?;
    Ok(Slimmed { plan: plan.clone() })
}

/// Takes what the removed channels carry to zero, and keeps every shape.
pub(crate) fn mask<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<()> {
    Transaction::masking(graph, plan)?.commit(model)
}
