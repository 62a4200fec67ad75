//! The result of slimming a model.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;
use tch::nn::VarStore;

use super::{Plan, Variables};
use crate::analysis::Graph;
use crate::error::PlanError;
use crate::{Absorbed, Cfg, Error, Result};

/// Stored positions of channels, by field path and name: `stage2.0.shuffle.order`.
pub(crate) type StoredPositions = BTreeMap<String, Vec<i64>>;

/// The result of [`Prunable::slim`](crate::Prunable::slim): the plan that was applied. Prints as a
/// table.
///
/// It has handles of the slimmed model's tensors, by which
/// [`checkpoint::save`](crate::checkpoint::save) finds their names in the variable store.
#[derive(Debug, Clone)]
pub struct Slimmed {
    pub(super) plan: Plan,
    positions: StoredPositions,
    absorbed: Vec<Absorbed>,
    tensors: Handles,
}

impl PartialEq for Slimmed {
    fn eq(&self, other: &Self) -> bool {
        // `absorbed` is not compared: absorption changes weights, not what stays.
        self.plan == other.plan && self.positions == other.positions
    }
}

impl Slimmed {
    pub(crate) fn new(
        plan: Plan,
        graph: &Graph,
        positions: StoredPositions,
        absorbed: Vec<Absorbed>,
    ) -> Self {
        Self { plan, positions, absorbed, tensors: Handles::of(graph) }
    }

    /// The plan that was applied.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The outcome of absorption, for each layer that read removed channels; empty if
    /// [absorption](crate::Slimming::absorb) was not asked for, and after loading a file.
    pub fn absorbed(&self) -> &[Absorbed] {
        &self.absorbed
    }

    /// The widths of the slimmed network.
    pub fn cfg(&self) -> Cfg {
        self.plan.cfg()
    }

    /// The input channels that each shuffle and selection of the slimmed network picks, by field
    /// path and name: `layer1.0.select.kept`.
    pub fn positions(&self) -> &BTreeMap<String, Vec<i64>> {
        &self.positions
    }

    /// Composes this slimming with a `later` one of the same model into one slimming of the
    /// original network: see [`Plan::then`].
    ///
    /// # Errors
    /// Those of [`Plan::then`].
    pub fn then(&self, later: &Slimmed) -> Result<Slimmed> {
        let absorbed = self.absorbed.iter().chain(&later.absorbed).cloned().collect();
        Ok(Slimmed { plan: self.plan.then(&later.plan)?, absorbed, ..later.clone() })
    }

    /// The plan with the names that `vs` has for the model's tensors.
    ///
    /// # Errors
    /// [`PlanError::NotInStore`](crate::error::PlanError::NotInStore) when a tensor has no name in
    /// `vs`; [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the model has been
    /// slimmed again.
    pub(crate) fn named_plan(&self, vs: &VarStore) -> Result<Plan> {
        let mut plan = self.plan.clone();
        let variables = Variables::new(vs);
        self.tensors.with(|tensors| {
            for (layer, handles) in plan.layers.iter_mut().zip(tensors) {
                let shapes: Vec<_> = layer.tensors.iter().map(|tensor| layer.shape_after(tensor)).collect();
                for ((tensor, handle), shape) in layer.tensors.iter_mut().zip(handles).zip(shapes) {
                    tensor.variable = Some(variables.require(&layer.path, &tensor.name, handle)?.to_owned());
                    if handle.size() != shape {
                        let (path, name, now) = (&layer.path, &tensor.name, handle.size());
                        let fix = "a model that is slimmed again takes both slimmings, `first.then(&second)`";
                        let difference = format!("`{path}.{name}` has shape {now:?}, and the plan leaves {shape:?}; {fix}");
                        return Err(Error::Plan(PlanError::Mismatch { difference }));
                    }
                }
            }
            Ok(())
        })?;
        Ok(plan)
    }
}

/// Handles of a model's tensors, by layer, in the order of its plan. They share the model's memory.
#[derive(Clone)]
struct Handles(Arc<Mutex<Vec<Vec<Tensor>>>>);

impl Handles {
    fn of(graph: &Graph) -> Self {
        let tensors = graph
            .layers
            .iter()
            .map(|layer| layer.tensors.iter().map(|bound| bound.tensor.shallow_clone()).collect());
        // Tensors are `Send` but not `Sync`, hence the lock.
        Self(Arc::new(Mutex::new(tensors.collect())))
    }

    fn with<T>(&self, read: impl FnOnce(&[Vec<Tensor>]) -> T) -> T {
        // Nothing is written under the lock, so the tensors are valid even if it is poisoned.
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handles")
    }
}
