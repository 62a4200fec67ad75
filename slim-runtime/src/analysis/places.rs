//! Finds the tensors of a graph by what a forward pass reports of them.

use std::collections::HashMap;

use tch::Tensor;

use crate::analysis::Graph;
use crate::graph::{LayerKind, LayerNode, Layout, TensorNode, memory};

/// A tensor of the graph: position of the layer, and of the tensor in that layer.
pub(crate) type Place = (usize, usize);

/// By address: the first tensor of the graph that is stored there, and its sizes and strides.
pub(crate) struct Places(HashMap<usize, (Layout, Place)>);

impl Places {
    pub(crate) fn of(graph: &Graph) -> Self {
        let tensors = tensors(graph).filter(|(_, tensor)| tensor.tied.is_none());
        Places(
            tensors
                .filter_map(|(place, tensor)| {
                    memory(&tensor.tensor).map(|(address, layout)| (address, (layout, place)))
                })
                .collect(),
        )
    }

    pub(crate) fn find(&self, tensor: &Tensor) -> Option<Place> {
        let (address, layout) = memory(tensor)?;
        self.0.get(&address).filter(|(known, _)| *known == layout).map(|&(_, place)| place)
    }
}

pub(crate) fn tensors(graph: &Graph) -> impl Iterator<Item = (Place, &TensorNode)> {
    let layers = graph.layers.iter().enumerate();
    layers.flat_map(|(i, layer)| {
        layer.tensors.iter().enumerate().map(move |(j, tensor)| ((i, j), tensor))
    })
}

/// Whether a tensor may cost MACs: all tensors except those with one value per channel, scalars,
/// empty tensors, and those of layers whose MACs are not counted by convention.
pub(crate) fn must_report(layer: &LayerNode, tensor: &TensorNode) -> bool {
    let has_weights = matches!(
        layer.kind,
        LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear | LayerKind::Other(_)
    );
    has_weights
        && layer.uses != Some(0)
        && !matches!(tensor.axes[..], [] | [Some(_)])
        && tensor.tensor.numel() > 0
}
