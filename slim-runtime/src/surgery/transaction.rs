//! All or nothing: every new value is computed before the first is put in place, and whatever fails
//! then is undone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::recheck::recheck;
use super::sharing::Sharing;
use super::states::States;
use super::swap::{Swaps, Value};
use super::{mask, matching};
use crate::analysis::Graph;
use crate::graph::memory;
use crate::plan::{Plan, StoredPositions};
use crate::surgery::absorb;
use crate::{Absorbed, Error, Prunable, Result, fault};

/// What a plan changes in a model, computed.
pub(super) struct Transaction<'g> {
    graph: &'g Graph,
    swaps: Swaps,
    states: States,
    /// What has to have followed when the tensors are changed.
    sharing: Sharing<'g>,
    absorbed: Vec<Absorbed>,
    /// The plan whose channels go, which the forward pass must follow.
    slims: Option<(&'g Plan, bool)>,
}

impl<'g> Transaction<'g> {
    /// Removes the channels that do not stay, absorbs what they sent on if the plan asks for it,
    /// and then gives tensors other values. Those of a tensor that shrinks have its shape of
    /// afterwards.
    ///
    /// # Errors
    /// A plan or a state that does not fit, [`Error::Torch`].
    pub(super) fn slimming<M: Prunable + ?Sized>(
        model: &mut M,
        graph: &'g Graph,
        plan: &'g Plan,
        values: Vec<Value>,
    ) -> Result<Self> {
        matching::check(graph, plan)?;
        let mut states = States::collect(graph, plan);
        states.check(model)?;
        let shifts = absorb::shifts(graph, plan)?;
        let mut swaps = Swaps::selecting(graph, plan, &shifts)?;
        let sharing = Sharing::of(graph, &values);
        let slims = Some((plan, !values.is_empty()));
        swaps.add_values(values)?;
        Ok(Self { graph, swaps, states, sharing, absorbed: shifts.absorbed, slims })
    }

    /// Takes what the channels that do not stay carry to zero.
    ///
    /// # Errors
    /// A plan that does not fit, [`Error::Torch`].
    pub(super) fn masking(graph: &'g Graph, plan: &Plan, what: mask::What) -> Result<Self> {
        matching::check(graph, plan)?;
        Ok(Self {
            graph,
            swaps: mask::swaps(graph, plan, what)?,
            states: States::default(),
            sharing: Sharing::default(),
            absorbed: Vec::new(),
            slims: None,
        })
    }

    /// Changes the model.
    ///
    /// # Errors
    /// [`Error::Torch`], [`Error::NotShared`], those of a hand-written `layers_mut`. The model is
    /// then as it was.
    ///
    /// # Panics
    /// When a hand-written `layers_mut` does. The model is then as it was, too.
    pub(super) fn commit<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        let committed = catch_unwind(AssertUnwindSafe(|| {
            self.swaps.commit()?;
            check_shared(self.graph)?;
            self.sharing.check()?;
            self.states.write(model)?;
            match self.slims {
                Some((plan, has_new_values)) => recheck(model, self.graph, plan, has_new_values),
                None => Ok(()),
            }
        }));
        if !matches!(committed, Ok(Ok(()))) {
            self.roll_back(model);
        }
        committed.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The positions that the model stores when this is done.
    pub(super) fn positions(&self) -> StoredPositions {
        self.states.positions()
    }

    /// What becomes of what removed channels sent on.
    pub(super) fn absorbed(self) -> Vec<Absorbed> {
        self.absorbed
    }

    /// Puts everything back that [`commit`](Self::commit) has changed.
    pub(super) fn roll_back<M: Prunable + ?Sized>(&mut self, model: &mut M) {
        // Whatever stopped `write` may stop this, in the same place: behind the last state that was
        // written.
        let _ = catch_unwind(AssertUnwindSafe(|| self.states.restore(model)));
        self.swaps.roll_back();
    }
}

/// Every handle of a tensor must have followed it.
fn check_shared(graph: &Graph) -> Result<()> {
    for node in &graph.layers {
        for bound in &node.tensors {
            let path = || format!("{}.{}", node.path, bound.name);
            fault::point().map_err(|cause| Error::torch(path())(cause))?;
            let Some(owner) = bound.tied else { continue };
            let (layer, tensor) = owner;
            if memory(&bound.tensor) != memory(&graph.layers[layer].tensors[tensor].tensor) {
                let owner = graph.tensor_path(owner);
                return Err(Error::NotShared {
                    path: node.path.clone(),
                    tensor: bound.name.to_owned(),
                    owner,
                });
            }
        }
    }
    Ok(())
}
