//! Fields that hold a `detach` of a variable: both share memory until one of them gets new data.

use std::collections::HashMap;

use tch::Tensor;

use super::swap::Value;
use crate::analysis::Graph;
use crate::error::WiringError;
use crate::graph::memory;
use crate::{Error, Result};

/// Pairs of a field and the variable that it shares memory with, found before anything changes.
#[derive(Default)]
pub(super) struct Sharing<'g> {
    pairs: Vec<Pair<'g>>,
}

struct Pair<'g> {
    path: &'g str,
    name: &'static str,
    field: &'g Tensor,
    owner: String,
    variable: Tensor,
}

impl<'g> Sharing<'g> {
    pub(super) fn of(graph: &'g Graph, variables: &[Value]) -> Self {
        let by_memory: HashMap<_, _> =
            variables.iter().filter_map(|value| Some((memory(&value.target)?, value))).collect();
        let bound = graph
            .layers
            .iter()
            .flat_map(|node| node.tensors.iter().map(|bound| (node.path.as_str(), bound)));
        let pairs = bound.filter_map(|(path, bound)| {
            let value = by_memory.get(&memory(&bound.tensor)?)?;
            let (owner, variable) = (value.name.clone(), value.target.shallow_clone());
            Some(Pair { path, name: bound.name, field: &bound.tensor, owner, variable })
        });
        Self { pairs: pairs.collect() }
    }

    /// # Errors
    /// [`WiringError::NotShared`](crate::error::WiringError::NotShared) when a field does not share
    /// memory with its variable any more.
    pub(super) fn check(&self) -> Result<()> {
        match self.pairs.iter().find(|pair| memory(pair.field) != memory(&pair.variable)) {
            None => Ok(()),
            Some(Pair { path, name, owner, .. }) => Err(Error::Wiring(WiringError::NotShared {
                path: (*path).to_owned(),
                tensor: (*name).to_owned(),
                owner: owner.clone(),
            })),
        }
    }
}
