//! Carrying out a plan: every new tensor first, then the commit, and back again if anything disagrees.

mod expand;
mod fit;
mod layout;
mod mask;
mod matching;
mod positions;
mod recheck;
mod select;
mod sharing;
mod states;
mod swap;
#[cfg(test)]
mod tests;
mod transaction;
mod trial;

use crate::analysis::Graph;
use crate::plan::{Plan, Positions, Slimmed};
use crate::{Prunable, Result};
pub(crate) use expand::expand;
pub(crate) use fit::{Fit, fit};
pub use states::LayerVisitor;
use states::States;
pub(crate) use states::visit_layers;
pub(crate) use swap::{Value, replace};
use transaction::Transaction;
pub(crate) use trial::{Form, observe, temporarily};

/// Selects, in every bound dimension of every tensor, the positions that stay.
pub(crate) fn apply<M: Prunable + ?Sized>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
) -> Result<Slimmed> {
    apply_with(model, graph, plan, Vec::new())
}

/// Like [`apply`], and gives tensors new values in the same transaction. Those of a tensor that shrinks have its shape of afterwards.
pub(crate) fn apply_with<M: Prunable + ?Sized>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
    values: Vec<Value>,
) -> Result<Slimmed> {
    let mut transaction = Transaction::slimming(model, graph, plan, values)?;
    transaction.commit(model)?;
    let (positions, absorbed) = (transaction.positions(), transaction.absorbed());
    Ok(Slimmed::new(plan.clone(), graph, positions, absorbed))
}

/// The positions that a model stores once a plan is carried out. Nothing changes.
///
/// # Errors
/// Those of [`LayerVisitor`].
pub(crate) fn positions<M: Prunable + ?Sized>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
) -> Result<Positions> {
    let mut states = States::collect(graph, plan);
    states.check(model)?;
    Ok(states.positions())
}

/// Takes what the removed channels carry to zero, and keeps every shape.
pub(crate) fn mask<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<()> {
    Transaction::masking(graph, plan, mask::What::All)?.commit(model)
}
