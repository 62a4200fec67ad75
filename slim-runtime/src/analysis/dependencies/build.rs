//! Builds [`Dependencies`] from a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::{Axis, ChannelRole, Dependencies, Edge, Layer, LayerGroup, Member};
use crate::analysis::{Graph, Producers, producers};
use crate::graph::{AxisNode, AxisRole, KeepReason, LayerKind, LayerNode};

pub(crate) fn of(graph: &Graph) -> Dependencies {
    // By position in the graph: the layer's position among those that have channels.
    let with_channels =
        || graph.layers.iter().enumerate().filter(|(_, layer)| !layer.axes.is_empty());
    let position: HashMap<usize, usize> =
        with_channels().enumerate().map(|(position, (index, _))| (index, position)).collect();
    let channel_groups = ChannelGroups::new(graph);
    let layers: Vec<_> =
        with_channels().map(|(_, node)| layer(graph, &channel_groups, node)).collect();
    let producers = producers(graph, |_, _| true);
    let edges =
        with_channels().flat_map(|(index, _)| edges(graph, &producers, &position, index)).collect();
    let parts: Vec<_> = with_channels()
        .map(|(_, node)| axes(node).map(|axis| part(node, axis)).collect())
        .collect();
    Dependencies { groups: groups(&layers, &parts, &channel_groups), layers, edges }
}

/// The axes of a layer, without those that are a part of another axis.
fn axes(node: &LayerNode) -> impl Iterator<Item = usize> {
    (0..node.axes.len()).filter(|&axis| node.axes[axis].role != AxisRole::MadePart)
}

fn layer(graph: &Graph, channel_groups: &ChannelGroups, node: &LayerNode) -> Layer {
    let axis = |index: usize| {
        let AxisNode { name, ids, .. } = &node.axes[index];
        let name = name.to_string();
        Axis {
            width: ids.len(),
            channel_groups: ids
                .iter()
                .filter_map(|&id| channel_groups.number[graph.channel_group(id)])
                .collect(),
            // The first axis of a layer that moves channels is its input.
            is_given_on: !matches!(
                (part(node, index), index),
                (ChannelRole::Reads, _) | (ChannelRole::Moves, 0)
            ),
            name,
        }
    };
    Layer {
        path: node.path.clone(),
        kind: node.kind.clone(),
        at: node.source(),
        axes: axes(node).map(axis).collect(),
    }
}

fn part(node: &LayerNode, axis: usize) -> ChannelRole {
    let is_conv = matches!(node.kind, LayerKind::Conv | LayerKind::ConvTranspose);
    let has_values = node.tensors.iter().any(|tensor| tensor.axes.contains(&Some(axis)));
    match node.axes[axis].role {
        AxisRole::Made | AxisRole::MadePart => ChannelRole::Makes,
        AxisRole::Read => ChannelRole::Reads,
        AxisRole::Followed
            if node
                .ranked
                .as_ref()
                .is_some_and(|ranked| ranked.is_scale && ranked.axis == axis) =>
        {
            ChannelRole::Scales
        }
        AxisRole::Followed if is_conv && has_values => ChannelRole::Makes,
        AxisRole::Followed if is_conv => ChannelRole::Reads,
        AxisRole::Followed if has_values => ChannelRole::Follows,
        AxisRole::Followed => ChannelRole::Moves,
    }
}

/// The edges that end at layer `to`, by the producers of the channels that it receives.
fn edges(
    graph: &Graph,
    producers: &[Producers],
    position: &HashMap<usize, usize>,
    to: usize,
) -> Vec<Edge> {
    let mut given: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    for &arrival in &graph.layers[to].arrivals {
        for (&id, producers) in graph.values[arrival].iter().zip(producers[arrival].iter()) {
            producers.iter().for_each(|from| _ = given.entry(from.layer).or_default().insert(id));
        }
    }
    given
        .into_iter()
        .map(|(from, ids)| Edge { from: position[&from], to: position[&to], channels: ids.len() })
        .collect()
}

/// Numbers the channel groups that some layer has, in the order of the data flow.
struct ChannelGroups {
    /// By channel group of the graph: its number; `None` if no layer has it.
    number: Vec<Option<usize>>,
    /// By number: why the channel group is held.
    held: Vec<Option<Rc<KeepReason>>>,
}

impl ChannelGroups {
    fn new(graph: &Graph) -> Self {
        let mut is_scored = vec![false; graph.channel_group.len()];
        for (layer, ranked) in graph.scales() {
            layer.axes[ranked.axis]
                .ids
                .iter()
                .for_each(|&id| is_scored[graph.channel_group(id)] = true);
        }
        let unscored = Rc::new(KeepReason::Unscored);
        let mut channel_groups =
            ChannelGroups { number: vec![None; graph.channel_group.len()], held: Vec::new() };
        for &id in
            graph.layers.iter().flat_map(|layer| &layer.axes).flat_map(|axis| axis.ids.iter())
        {
            let channel_group = graph.channel_group(id);
            if channel_groups.number[channel_group].is_none() {
                channel_groups.number[channel_group] = Some(channel_groups.held.len());
                channel_groups.held.push(
                    graph.held[channel_group]
                        .clone()
                        .or_else(|| (!is_scored[channel_group]).then(|| Rc::clone(&unscored))),
                );
            }
        }
        channel_groups
    }
}

/// Groups the channel groups that are in the same axes of the same layers, and held for the same
/// reason.
fn groups(
    layers: &[Layer],
    parts: &[Vec<ChannelRole>],
    channel_groups: &ChannelGroups,
) -> Vec<LayerGroup> {
    // By channel group: the axes that have it, as layer and axis.
    let mut lists = vec![Vec::new(); channel_groups.held.len()];
    for (index, layer) in layers.iter().enumerate() {
        for (axis, list) in layer.axes.iter().enumerate() {
            for &channel_group in &list.channel_groups {
                if lists[channel_group].last() != Some(&(index, axis)) {
                    lists[channel_group].push((index, axis));
                }
            }
        }
    }
    let mut numbers = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of = vec![0; channel_groups.held.len()];
    for (channel_group, lists) in lists.iter().enumerate() {
        let held = channel_groups.held[channel_group].as_ref().map(ToString::to_string);
        let number = *numbers.entry((lists, held)).or_insert(groups.len());
        groups.resize_with(groups.len().max(number + 1), Vec::new);
        groups[number].push(channel_group);
        group_of[channel_group] = number;
    }
    let group = |(index, members): (usize, Vec<usize>)| {
        let member = |&(layer, axis): &(usize, usize)| {
            let Axis { name, channel_groups, .. } = &layers[layer].axes[axis];
            let positions = channel_groups
                .iter()
                .enumerate()
                .filter(|&(_, &channel_group)| group_of[channel_group] == index)
                .map(|(position, _)| position);
            Member {
                layer,
                axis: name.clone(),
                role: parts[layer][axis],
                positions: positions.collect(),
            }
        };
        LayerGroup {
            number: index + 1,
            channels: members.len(),
            members: lists[members[0]].iter().map(member).collect(),
            held: channel_groups.held[members[0]].as_deref().cloned(),
        }
    };
    groups.into_iter().enumerate().map(group).collect()
}
