//! Surgery: carries out a plan. All new tensors are computed before the commit, and everything is
//! rolled back if a check fails.

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
pub(crate) use absorb::what_it_makes;
pub(crate) use fit::{Fit, fit};
pub(crate) use matching::check;
use states::States;
pub(crate) use swap::{Value, replace};
use transaction::Transaction;
pub(crate) use trial::{ModelState, observe, temporarily};

/// Selects the positions that stay, in every bound dimension of every tensor.
pub(crate) fn apply<M: Prunable + ?Sized>(
    model: &mut M,
    graph: &Graph,
    plan: &Plan,
) -> Result<Slimmed> {
    apply_with(model, graph, plan, Vec::new())
}

/// Like [`apply`], and gives tensors new values in the same transaction. If a tensor shrinks, its
/// new values have the shape that it has afterwards.
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

/// The positions that a model will store once the plan is carried out. Changes nothing.
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

/// Sets what the removed channels carry to zero and keeps every shape.
pub(crate) fn mask<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<()> {
    Transaction::masking(graph, plan)?.commit(model)
}

impl Plan {
    /// Like [`Prunable::apply`](crate::Prunable::apply), and keeps the change only if `confirm`
    /// agrees: for several processes, of which all make the same surgery or none. `confirm` is
    /// called when all changes are made and checked; if it fails, they are undone.
    ///
    /// # Errors
    /// The error of `confirm`; those of [`Prunable::apply`](crate::Prunable::apply), after which
    /// `confirm` was not called. The model is then unchanged, to the bit.
    pub fn apply_if<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        confirm: impl FnOnce() -> Result<()>,
    ) -> Result<Slimmed> {
        let graph = analysis::trace(model, self.masking())?;
        let mut transaction = Transaction::slimming(model, &graph, self, Vec::new())?;
        transaction.commit(model)?;
        if let Err(error) = confirm() {
            transaction.roll_back(model);
            return Err(error);
        }
        let (positions, absorbed) = (transaction.positions(), transaction.absorbed());
        Ok(Slimmed::new(self.clone(), &graph, positions, absorbed))
    }

    /// Narrows a model that is as wide as the one that was planned for: to rebuild a slimmed
    /// network, and then load its weights.
    ///
    /// # Errors
    /// Those of [`Prunable::apply`](crate::Prunable::apply).
    pub fn narrowed<M: Prunable>(&self, mut model: M) -> Result<M> {
        model.apply(self)?;
        Ok(model)
    }
}

impl Cfg {
    /// Narrows a model to these widths, to load weights afterwards: the first channels of each
    /// batch norm stay.
    ///
    /// A cfg has only the widths of batch norms. Channels that have no batch norm behind them, and
    /// were removed by their weights, are recorded in the plan alone. If the widths do not
    /// determine what a split, a shuffle or a selection does, that is an error; rebuild the network
    /// from its plan with [`Plan::narrowed`](crate::Plan::narrowed). If one batch norm reads a
    /// concatenation, which of its parts became narrower is a guess. If the guess is wrong,
    /// [`checkpoint::load`](crate::checkpoint::load) reports the difference.
    ///
    /// # Errors
    /// [`PlanError::CfgMismatch`](crate::error::PlanError::CfgMismatch) when the cfg is not this
    /// model's, when one stream would keep two widths, or when channels would go that a split, a
    /// shuffle or a selection knows by number;
    /// [`ArgumentError::Cfg`](crate::error::ArgumentError::Cfg) when a width is below 1; those of
    /// [`Prunable::apply`].
    pub fn narrowed<M: Prunable>(&self, model: M) -> Result<M> {
        select::plan_for(&analysis::trace(&model, Masking::Parameters)?, self)?.narrowed(model)
    }
}
