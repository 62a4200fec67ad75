//! Looks up the tensors of layers among the variables of a store.

use std::collections::{BTreeMap, HashMap};

use tch::Tensor;
use tch::nn::VarStore;

use super::Plan;
use crate::error::PlanError;
use crate::graph::{Memory, memory};
use crate::{Error, Result};

/// The names of a store's variables, by the memory of their values.
pub(crate) struct Variables {
    names: HashMap<Memory, String>,
}

impl Variables {
    pub(crate) fn new(vs: &VarStore) -> Self {
        let sorted: BTreeMap<_, _> = vs.variables().into_iter().collect();
        // In reverse order, so that of several names for one tensor the first is kept.
        let names = sorted
            .into_iter()
            .rev()
            .filter_map(|(name, variable)| Some((memory(&variable)?, name)))
            .collect();
        Self { names }
    }

    pub(crate) fn name(&self, tensor: &Tensor) -> Option<&str> {
        self.names.get(&memory(tensor)?).map(String::as_str)
    }

    /// The name of a layer's tensor in the store.
    ///
    /// # Errors
    /// [`PlanError::NotInStore`](crate::error::PlanError::NotInStore).
    pub(crate) fn require(&self, path: &str, tensor: &str, handle: &Tensor) -> Result<&str> {
        self.name(handle).ok_or_else(|| {
            Error::Plan(PlanError::NotInStore { path: path.to_owned(), tensor: tensor.to_owned() })
        })
    }
}

impl Plan {
    /// Every tensor of the plan: its field path, and its name in the variable store if the plan has
    /// names (see [`with_variables`](Self::with_variables)).
    ///
    /// The two are often equal, but not always: in a network with PyTorch's names, the variable of
    /// a field `features[0].conv` is `features.0.0.weight`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let tensors = self
            .layers
            .iter()
            .flat_map(|layer| layer.tensors.iter().map(move |tensor| (layer, tensor)));
        tensors.map(|(layer, tensor)| {
            (format!("{}.{}", layer.path, tensor.name), tensor.variable.as_deref())
        })
    }
}

impl PartialEq for super::TensorPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.dims, self.role, &self.tied)
            == (&other.name, &other.dims, other.role, &other.tied)
    }
}
