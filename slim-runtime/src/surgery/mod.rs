//! Carrying out a plan: every new tensor first, then the commit, and back again if anything
//! disagrees.

pub(crate) mod absorb;
mod expand;
mod fit;
mod layout;
mod mask;
mod matching;
mod positions;
mod recheck;
mod selection;
mod sharing;
mod states;
mod swap;
#[cfg(test)]
mod tests;
mod transaction;
mod trial;

use crate::analysis::{self, Graph, Masking};
use crate::plan::{Cfg, Plan, Slimmed, StoredPositions};
use crate::{Prunable, Result, select};
pub(crate) use fit::{Fit, fit};
use states::States;
pub(crate) use swap::{Value, replace};
use transaction::Transaction;
pub(crate) use trial::{ModelState, observe, temporarily};

/// Selects, in every bound dimension of every tensor, the positions that stay.
pub(crate) fn apply<M: Prunable + ?Sized>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
) -> Result<Slimmed> {
    apply_with(model, graph, plan, Vec::new())
}

/// Like [`apply`], and gives tensors new values in the same transaction. Those of a tensor that
/// shrinks have its shape of afterwards.
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
) -> Result<StoredPositions> {
    let mut states = States::collect(graph, plan);
    states.check(model)?;
    Ok(states.positions())
}

/// Takes what the removed channels carry to zero, and keeps every shape.
pub(crate) fn mask<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<()> {
    Transaction::masking(graph, plan, mask::What::All)?.commit(model)
}

impl Plan {
    /// A model that is as wide as the one that was planned for, narrowed: to build a slimmed
    /// network again, and then load its weights.
    ///
    /// # Errors
    /// Those of [`Prunable::apply`](crate::Prunable::apply).
    pub fn narrowed<M: Prunable>(&self, mut model: M) -> Result<M> {
        model.apply(self)?;
        Ok(model)
    }
}

impl Cfg {
    /// A model narrowed to these widths, in place of the weights that are then loaded: the first
    /// channels of each batch norm stay.
    ///
    /// A cfg has no more than the widths of batch norms: what has none behind it, and was slimmed
    /// by its weights, is in the plan alone. Where they do not say what a split, a shuffle or a
    /// selection does, that is an error, and the network is built again from its plan, by
    /// [`Plan::narrowed`](crate::Plan::narrowed). Which of the parts of a concatenation that one
    /// batch norm reads have become narrower is a guess: where it is wrong,
    /// [`checkpoint::load`](crate::checkpoint::load) says what differs.
    ///
    /// # Errors
    /// [`Error::CfgMismatch`](crate::Error::CfgMismatch) when it is not this model's, would have
    /// one stream keep two widths, or narrows what a split, a shuffle or a selection knows by
    /// number; [`Error::Cfg`](crate::Error::Cfg) when a width is below 1; those of
    /// [`Prunable::apply`].
    pub fn narrowed<M: Prunable>(&self, model: M) -> Result<M> {
        select::plan_for(&analysis::trace(&model, Masking::Parameters)?, self)?.narrowed(model)
    }
}
