//! Greedy removal of one channel group after the other, with the widths of all layers and the cost
//! of the network kept up to date.

use super::budget::CostModel;
use crate::analysis::Graph;
use crate::graph::AxisRole;
use crate::slimming::{Bounds, Rule};

/// The constant inputs of the removal.
pub(super) struct ConstraintIndex<'g> {
    pub(super) graph: &'g Graph,
    pub(super) axes: Vec<AxisBounds>,
    /// Per layer: the position of its first axis in `axes`.
    first_axis: Vec<usize>,
    /// The axis of each channel, sorted by channel group; the axes of one layer are contiguous.
    axis_of: Vec<u32>,
    /// Per channel group: where its channels begin in `axis_of`, with one more entry for the end.
    begin: Vec<usize>,
    costs: Option<CostModel>,
}

/// The bounds on one axis of one layer.
pub(super) struct AxisBounds {
    pub(super) layer: usize,
    pub(super) axis: usize,
    pub(super) width: usize,
    /// The least number of channels that stay, and the rule that demands it.
    pub(super) least: (usize, Rule),
    /// Whether the layer makes or scales these channels, so that bounds apply to them.
    pub(super) is_layers: bool,
}

/// The current state of the removal.
#[derive(Clone)]
pub(super) struct GreedyState {
    /// Per channel group: whether it stays.
    pub(super) keep: Vec<bool>,
    /// Per axis: how many channels are left.
    pub(super) left: Vec<usize>,
    /// The cost of each layer; `cost` is their sum.
    layer_costs: Vec<u64>,
    pub(super) cost: u64,
}

impl<'g> ConstraintIndex<'g> {
    pub(super) fn new(graph: &'g Graph, bounds: &Bounds, costs: Option<CostModel>) -> Self {
        let (mut axes, mut first_axis) = (Vec::new(), Vec::new());
        for (layer, node) in graph.layers.iter().enumerate() {
            first_axis.push(axes.len());
            for (axis, list) in node.axes.iter().enumerate() {
                let width = list.ids.len();
                let scales = || {
                    node.ranked
                        .as_ref()
                        .is_some_and(|ranked| ranked.is_scale && ranked.axis == axis)
                };
                let is_layers =
                    (list.role == AxisRole::Made && !node.tensors.is_empty()) || scales();
                let needed = (list.least.min(width), Rule::Needed);
                let bound = if is_layers { bounds.least(width) } else { needed };
                let least = if bound.0 > needed.0 { bound } else { needed };
                axes.push(AxisBounds { layer, axis, width, least, is_layers });
            }
        }
        let (axis_of, begin) = by_channel_group(graph);
        Self { graph, axes, first_axis, axis_of, begin, costs }
    }

    /// The axis of each channel of a channel group.
    fn axes_of(&self, channel_group: usize) -> &[u32] {
        &self.axis_of[self.begin[channel_group]..self.begin[channel_group + 1]]
    }

    /// The initial state: nothing is removed.
    pub(super) fn start(&self) -> GreedyState {
        let left: Vec<_> = self.axes.iter().map(|axis| axis.width).collect();
        let layer_costs: Vec<_> =
            self.costs.iter().flat_map(|costs| costs.of_layers(&left)).collect();
        GreedyState {
            keep: vec![true; self.graph.channel_group.len()],
            left,
            cost: layer_costs.iter().fold(0, |sum: u64, &cost| sum.saturating_add(cost)),
            layer_costs,
        }
    }

    /// The position in `axes` of an axis of a layer.
    pub(super) fn axis(&self, layer: usize, axis: usize) -> usize {
        self.first_axis[layer] + axis
    }

    /// The channel group of each channel of an axis, in order.
    pub(super) fn channel_groups(&self, axis: usize) -> impl Iterator<Item = usize> {
        let AxisBounds { layer, axis, .. } = self.axes[axis];
        self.graph.layers[layer].axes[axis].ids.iter().map(|&id| self.graph.channel_group(id))
    }
}

/// All channels of all axes, sorted by channel group: the axis of each, and where each channel
/// group begins.
fn by_channel_group(graph: &Graph) -> (Vec<u32>, Vec<usize>) {
    let lists = || graph.layers.iter().flat_map(|layer| &layer.axes).map(|axis| &axis.ids);
    let mut begin = vec![0; graph.channel_group.len() + 1];
    for &id in lists().flat_map(|ids| ids.iter()) {
        begin[graph.channel_group(id) + 1] += 1;
    }
    (0..graph.channel_group.len())
        .for_each(|channel_group| begin[channel_group + 1] += begin[channel_group]);
    let (mut next, mut axis_of) = (begin.clone(), vec![0; begin[graph.channel_group.len()]]);
    for (axis, ids) in lists().enumerate() {
        for &id in ids.iter() {
            let place = &mut next[graph.channel_group(id)];
            axis_of[*place] = axis as u32;
            *place += 1;
        }
    }
    (axis_of, begin)
}

impl GreedyState {
    /// Removes a channel group, unless a layer would have fewer channels than a bound allows.
    pub(super) fn remove(
        &mut self,
        constraints: &ConstraintIndex,
        channel_group: usize,
    ) -> Result<(), Rule> {
        let axes = constraints.axes_of(channel_group);
        for (done, &axis) in axes.iter().enumerate() {
            let axis = axis as usize;
            if self.left[axis] <= constraints.axes[axis].least.0 {
                axes[..done].iter().for_each(|&axis| self.left[axis as usize] += 1);
                return Err(constraints.axes[axis].least.1);
            }
            self.left[axis] -= 1;
        }
        self.keep[channel_group] = false;
        self.update_costs(constraints, channel_group);
        Ok(())
    }

    /// Restores a channel group.
    pub(super) fn restore(&mut self, constraints: &ConstraintIndex, channel_group: usize) {
        constraints.axes_of(channel_group).iter().for_each(|&axis| self.left[axis as usize] += 1);
        self.keep[channel_group] = true;
        self.update_costs(constraints, channel_group);
    }

    fn update_costs(&mut self, constraints: &ConstraintIndex, channel_group: usize) {
        let Some(costs) = &constraints.costs else { return };
        let mut layers = constraints
            .axes_of(channel_group)
            .iter()
            .map(|&axis| constraints.axes[axis as usize].layer);
        let mut before = None;
        // The axes of one layer are contiguous.
        for layer in layers.by_ref().filter(|&layer| before.replace(layer) != Some(layer)) {
            let cost = costs.of_layer(layer, &self.left);
            self.cost = self.cost.saturating_sub(self.layer_costs[layer]).saturating_add(cost);
            self.layer_costs[layer] = cost;
        }
    }
}
