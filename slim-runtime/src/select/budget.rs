//! The cost of a network at given widths, computed from the shapes of its tensors alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::Graph;
use crate::error::SelectionError;
use crate::graph::{LayerKind, LayerNode, Role, TensorNode};
use crate::numeric::Uses;
use crate::slimming::Target;
use crate::{Error, Result};

/// The cost of each layer as a function of its widths: a sum of products. A shared tensor counts
/// only in the layer where it occurs first.
pub(super) struct CostModel {
    layers: Vec<Vec<Term>>,
}

/// The cost of one tensor: uses × element count.
struct Term {
    uses: Uses,
    /// The product of the dimensions that follow no axis.
    fixed: u64,
    /// The axes, counted over the whole network, that the other dimensions follow.
    axes: Vec<usize>,
}

/// What is left of a cost when the share `share` of it may stay.
pub(super) fn most(whole: u64, share: f64) -> u64 {
    (whole as f64 * share) as u64
}

impl CostModel {
    /// Counts what the budget of a target limits; `None` if the target is no budget.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for the cost of another
    /// network.
    pub(super) fn of(graph: &Graph, target: &Target) -> Result<Option<Self>> {
        Ok(match target {
            Target::Params(_) => Some(Self::parameters(graph)),
            Target::Macs { uses, .. } => Some(Self::macs(graph, uses)?),
            _ => None,
        })
    }

    /// Counts parameters.
    pub(super) fn parameters(graph: &Graph) -> Self {
        Self::new(graph, |_| Uses::from(1))
    }

    /// Counts multiply-accumulates for one sample: the elements of each weight, times its uses. A
    /// tensor that `uses` does not list costs nothing.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when `uses` lists a
    /// tensor that the network does not have, or lacks a weight that it has.
    pub(super) fn macs(graph: &Graph, uses: &BTreeMap<String, Uses>) -> Result<Self> {
        let tensors = graph.layers.iter().flat_map(|layer| {
            layer.tensors.iter().map(|tensor| format!("{}.{}", layer.path, tensor.name))
        });
        let known: BTreeSet<_> = tensors.collect();
        let counted = |layer: &&LayerNode| {
            matches!(layer.kind, LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear)
        };
        let mut weights = graph.layers.iter().filter(counted).flat_map(|layer| {
            let tensors = layer
                .tensors
                .iter()
                .filter(|tensor| tensor.axes.len() > 1 && tensor.tied.is_none());
            tensors.map(|tensor| format!("{}.{}", layer.path, tensor.name))
        });
        if let Some(missing) = weights.find(|path| !uses.contains_key(path)) {
            let reason = format!(
                "the cost is another network's, which has no tensor `{missing}`; record it of this one, with `cost`"
            );
            return Err(Error::Selection(SelectionError::Slimming { reason }));
        }
        if let Some(stranger) = uses.keys().find(|path| !known.contains(*path)) {
            let reason = format!(
                "the cost is another network's, which has the tensor `{stranger}`; record it of this one, with `cost`"
            );
            return Err(Error::Selection(SelectionError::Slimming { reason }));
        }
        Ok(Self::new(graph, |path| uses.get(path).copied().unwrap_or(Uses::from(0))))
    }

    fn new(graph: &Graph, uses: impl Fn(&str) -> Uses) -> Self {
        let mut first_axis = 0;
        let mut layers = Vec::new();
        for layer in &graph.layers {
            let tensors = layer
                .tensors
                .iter()
                .filter(|tensor| tensor.role == Role::Parameter && tensor.tied.is_none());
            let term = |tensor: &TensorNode| {
                let sizes = tensor.tensor.size().into_iter().zip(&tensor.axes);
                let fixed: u64 =
                    sizes.filter(|(_, axis)| axis.is_none()).map(|(size, _)| size as u64).product();
                Term {
                    uses: uses(&format!("{}.{}", layer.path, tensor.name)),
                    fixed,
                    axes: tensor.axes.iter().flatten().map(|axis| first_axis + axis).collect(),
                }
            };
            layers.push(tensors.map(term).filter(|term| term.uses.times() > 0).collect());
            first_axis += layer.axes.len();
        }
        Self { layers }
    }

    /// The cost of each layer, given the number of channels left on each axis of the network.
    pub(super) fn of_layers(&self, left: &[usize]) -> Vec<u64> {
        (0..self.layers.len()).map(|layer| self.of_layer(layer, left)).collect()
    }

    pub(super) fn of_layer(&self, layer: usize, left: &[usize]) -> u64 {
        let elements = |term: &Term| {
            let widths = term.axes.iter().map(|&axis| left[axis] as u64);
            widths.fold(term.fixed, u64::saturating_mul)
        };
        let macs = |term: &Term| term.uses.macs(elements(term)).unwrap_or(u64::MAX);
        self.layers[layer].iter().map(macs).fold(0, u64::saturating_add)
    }
}
