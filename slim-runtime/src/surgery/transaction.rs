//! All or nothing: every new value is computed before the first one is put in place, and a failure
//! after that is rolled back.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::recheck::recheck;
use super::sharing::Sharing;
use super::states::States;
use super::swap::{Swaps, Value};
use super::{mask, matching};
use crate::analysis::Graph;
use crate::error::WiringError;
use crate::graph::memory;
use crate::plan::{Plan, StoredPositions};
use crate::surgery::absorb;
use crate::{Absorbed, Error, Prunable, Result, fault};

/// The changes that a plan makes to a model, computed and ready to commit.
pub(super) struct Transaction<'g> {
    graph: &'g Graph,
    swaps: Swaps,
    states: States,
    /// Fields that have to share memory with their variables after the commit.
    sharing: Sharing<'g>,
    absorbed: Vec<Absorbed>,
    /// The plan that is rechecked against the forward pass, and whether tensors get other values;
    /// `None` for masking.
    slims: Option<(&'g Plan, bool)>,
}

impl<'g> Transaction<'g> {
    /// Removes channels, absorbs what they send on if the plan asks for it, then gives tensors new
    /// values. If a tensor shrinks, its new values have the shape that it has afterwards.
    ///
    /// # Errors
    /// When the plan or a state does not fit; [`Error::Torch`].
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

    /// Sets what the removed channels carry to zero, in the memory that the tensors have: training
    /// goes on afterwards, and whatever hangs on a variable, such as the averaging of its gradient
    /// over several processes, still does.
    ///
    /// # Errors
    /// When the plan does not fit; [`Error::Torch`].
    pub(super) fn masking(graph: &'g Graph, plan: &Plan) -> Result<Self> {
        matching::check(graph, plan)?;
        let mut swaps = Swaps::default();
        swaps.add_values(mask::values(graph, plan, mask::What::All)?)?;
        Ok(Self::without_states(graph, swaps))
    }

    /// Sets what the removed channels carry to zero in other memory, to be rolled back: a loss that
    /// is still alive can then run backward.
    ///
    /// # Errors
    /// When the plan does not fit; [`Error::Torch`].
    pub(super) fn masking_for_a_trial(
        graph: &'g Graph,
        plan: &Plan,
        what: mask::What,
    ) -> Result<Self> {
        matching::check(graph, plan)?;
        let values = mask::values(graph, plan, what)?;
        Self::without_states(graph, Swaps::default()).exchanging(values)
    }

    /// Changes of values alone.
    fn without_states(graph: &'g Graph, swaps: Swaps) -> Self {
        Self {
            graph,
            swaps,
            states: States::default(),
            sharing: Sharing::default(),
            absorbed: Vec::new(),
            slims: None,
        }
    }

    /// Also exchanges the memory of tensors for new values, of the shapes that they have. A loss
    /// that is still alive can be differentiated after a rollback, as it could not be if the values
    /// were written into the old memory.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn exchanging(mut self, values: Vec<Value>) -> Result<Self> {
        for Value { name, target, value } in values {
            self.swaps.add(&name, &target, |_| Ok(value))?;
        }
        Ok(self)
    }

    /// Changes the model.
    ///
    /// # Errors
    /// [`Error::Torch`], [`WiringError::NotShared`](crate::error::WiringError::NotShared),
    /// [`Error::Undone`], those of a hand-written `layers_mut`. The model is rolled back.
    ///
    /// # Panics
    /// When a hand-written `layers_mut` panics. The model is rolled back here, too.
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

    /// The positions that the model stores after the commit.
    pub(super) fn positions(&self) -> StoredPositions {
        self.states.positions()
    }

    /// The outcome of absorption.
    pub(super) fn absorbed(self) -> Vec<Absorbed> {
        self.absorbed
    }

    /// Undoes everything that [`commit`](Self::commit) changed.
    pub(super) fn roll_back<M: Prunable + ?Sized>(&mut self, model: &mut M) {
        // Whatever stopped `write` may stop `restore` at the same place, but every state written
        // before it is restored by then.
        let _ = catch_unwind(AssertUnwindSafe(|| self.states.restore(model)));
        self.swaps.roll_back();
    }
}

/// Checks that every handle of a tensor has followed its change.
fn check_shared(graph: &Graph) -> Result<()> {
    for node in &graph.layers {
        for bound in &node.tensors {
            let path = || format!("{}.{}", node.path, bound.name);
            fault::point().map_err(|cause| Error::torch(path())(cause))?;
            let Some(owner) = bound.tied else { continue };
            let (layer, tensor) = owner;
            if memory(&bound.tensor) != memory(&graph.layers[layer].tensors[tensor].tensor) {
                let owner = graph.tensor_path(owner);
                return Err(Error::Wiring(WiringError::NotShared {
                    path: node.path.clone(),
                    tensor: bound.name.to_owned(),
                    owner,
                }));
            }
        }
    }
    Ok(())
}
