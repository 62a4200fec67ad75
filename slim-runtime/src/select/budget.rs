//! The cost of a network at given widths, computed from the shapes of its tensors or from a table
//! of times.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::analysis::Graph;
use crate::analysis::latency::LayerLatencies;
use crate::error::SelectionError;
use crate::graph::{LayerKind, LayerNode, Role, TensorNode};
use crate::numeric::{Grid, Uses};
use crate::slimming::Target;
use crate::{Error, Result};

/// The cost of each layer as a function of its widths: a sum over its tensors. A shared tensor
/// counts only in the layer where it occurs first.
pub(super) struct CostModel {
    layers: Vec<Vec<Term>>,
}

/// The cost of one tensor. Axes are counted over the whole network.
enum Term {
    /// Uses × element count.
    Product {
        uses: Uses,
        /// The product of the dimensions that follow no axis.
        fixed: u64,
        /// The axes that the other dimensions follow.
        axes: Vec<usize>,
    },
    /// A table's time for the first two dimensions.
    Time { grids: Vec<Rc<Grid>>, widths: [Width; 2] },
}

/// A dimension of a tensor.
#[derive(Clone, Copy)]
enum Width {
    /// Follows this axis.
    Axis(usize),
    Fixed(u64),
}

/// What is left of a cost when the share `share` of it may stay.
pub(super) fn most(whole: u64, share: f64) -> u64 {
    (whole as f64 * share) as u64
}

impl CostModel {
    /// Counts what the budget of a target limits; `None` if the target is no budget.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for the cost or the
    /// latencies of another network.
    pub(super) fn of(graph: &Graph, target: &Target) -> Result<Option<Self>> {
        Ok(match target {
            Target::Params(_) => Some(Self::parameters(graph)),
            Target::Macs { uses, .. } => Some(Self::macs(graph, uses)?),
            Target::Latency { latencies, .. } => Some(Self::latency(graph, latencies)?),
            _ => None,
        })
    }

    /// Counts parameters.
    pub(super) fn parameters(graph: &Graph) -> Self {
        Self::products(graph, |_| Uses::from(1))
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
        Ok(Self::products(graph, |path| uses.get(path).copied().unwrap_or(Uses::from(0))))
    }

    /// Counts nanoseconds of a pass, by a table of times.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when the times are
    /// those
    /// of another network or device.
    pub(super) fn latency(graph: &Graph, latencies: &LayerLatencies) -> Result<Self> {
        latencies.check(graph)?;
        let grids: Vec<_> = latencies.grids.iter().cloned().map(Rc::new).collect();
        Ok(Self::new(graph, |first_axis, path, tensor| {
            let sizes = tensor.tensor.size();
            let width = |dim: usize| match tensor.axes.get(dim).copied().flatten() {
                Some(axis) => Width::Axis(first_axis + axis),
                None => Width::Fixed(sizes.get(dim).copied().unwrap_or(1).unsigned_abs()),
            };
            let entries = latencies.layers.get(path)?;
            let grids = entries.iter().map(|&entry| grids[entry].clone()).collect();
            Some(Term::Time { grids, widths: [0, 1].map(width) })
        }))
    }

    fn products(graph: &Graph, uses: impl Fn(&str) -> Uses) -> Self {
        Self::new(graph, |first_axis, path, tensor| {
            let uses = uses(path);
            let sizes = tensor.tensor.size().into_iter().zip(&tensor.axes);
            let fixed: u64 =
                sizes.filter(|(_, axis)| axis.is_none()).map(|(size, _)| size as u64).product();
            let axes = tensor.axes.iter().flatten().map(|axis| first_axis + axis).collect();
            let counts = tensor.role == Role::Parameter && uses.times() > 0;
            counts.then_some(Term::Product { uses, fixed, axes })
        })
    }

    /// `term` returns the cost of a tensor, given the number of its layer's first axis and its
    /// path.
    fn new(graph: &Graph, term: impl Fn(usize, &str, &TensorNode) -> Option<Term>) -> Self {
        let mut first_axis = 0;
        let mut layers = Vec::new();
        for layer in &graph.layers {
            let tensors = layer.tensors.iter().filter(|tensor| tensor.tied.is_none());
            let terms = tensors.filter_map(|tensor| {
                term(first_axis, &format!("{}.{}", layer.path, tensor.name), tensor)
            });
            layers.push(terms.collect());
            first_axis += layer.axes.len();
        }
        Self { layers }
    }

    /// The cost of each layer, given the number of channels left on each axis of the network.
    pub(super) fn of_layers(&self, left: &[usize]) -> Vec<u64> {
        (0..self.layers.len()).map(|layer| self.of_layer(layer, left)).collect()
    }

    pub(super) fn of_layer(&self, layer: usize, left: &[usize]) -> u64 {
        self.layers[layer].iter().map(|term| term.cost(left)).fold(0, u64::saturating_add)
    }
}

impl Term {
    fn cost(&self, left: &[usize]) -> u64 {
        match self {
            Term::Product { uses, fixed, axes } => {
                let widths = axes.iter().map(|&axis| left[axis] as u64);
                uses.macs(widths.fold(*fixed, u64::saturating_mul)).unwrap_or(u64::MAX)
            }
            Term::Time { grids, widths } => {
                let [rows, columns] = widths.map(|width| match width {
                    Width::Axis(axis) => left[axis] as u64,
                    Width::Fixed(width) => width,
                });
                grids.iter().map(|grid| grid.at(rows, columns)).fold(0, u64::saturating_add)
            }
        }
    }
}
