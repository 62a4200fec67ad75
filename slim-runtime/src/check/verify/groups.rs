//! Groups removed channels by producer, for error messages: the channels that a layer makes, with
//! all channels that are coupled with them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::analysis::{Graph, UnionFind};
use crate::graph::{AxisNode, AxisRole, LayerNode};
use crate::plan::{self, Plan};

/// Channels that a plan removes, and the layers that make, scale and read them.
pub(super) struct Group {
    pub(super) channel_groups: HashSet<usize>,
    /// Paths of the batch norms that rank these channels and no other removed ones; if there is
    /// none, paths of the producers.
    pub(super) names: Vec<String>,
    /// Paths of the producers, unless they are in `names`.
    pub(super) makers: Vec<String>,
    /// Paths of the consumers.
    pub(super) readers: Vec<String>,
}

/// The groups of channels that a plan removes, in the order of the data flow.
pub(super) fn coupled(graph: &Graph, plan: &Plan) -> Vec<Group> {
    let mut union = UnionFind::new(graph.channel_group.len());
    let mut removed = vec![false; graph.channel_group.len()];
    let axes = graph
        .layers
        .iter()
        .zip(&plan.layers)
        .flat_map(|(node, layer)| node.axes.iter().zip(&layer.axes));
    for (axis, planned) in axes {
        let mut first = None;
        for position in plan::removed(&planned.keep, planned.width) {
            let channel_group = graph.channel_group[axis.ids[position] as usize];
            removed[channel_group as usize] = true;
            if axis.role == AxisRole::Made {
                union.union(*first.get_or_insert(channel_group), channel_group);
            }
        }
    }
    let mut groups: BTreeMap<_, HashSet<usize>> = BTreeMap::new();
    for (channel_group, root) in union
        .into_roots()
        .into_iter()
        .enumerate()
        .filter(|(channel_group, _)| removed[*channel_group])
    {
        groups.entry(root).or_default().insert(channel_group);
    }
    groups.into_values().map(|channel_groups| Group::new(graph, &removed, channel_groups)).collect()
}

impl Group {
    fn new(graph: &Graph, removed: &[bool], channel_groups: HashSet<usize>) -> Self {
        let removed_of = |layer: &LayerNode, axis: usize| -> Vec<usize> {
            let channel_groups = layer.axes[axis].ids.iter().map(|&id| graph.channel_group(id));
            channel_groups.filter(|&channel_group| removed[channel_group]).collect()
        };
        let has = |layer: &LayerNode, axis: usize| {
            removed_of(layer, axis)
                .iter()
                .any(|channel_group| channel_groups.contains(channel_group))
        };
        let (mut rankers, mut makers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &graph.layers {
            let makes = (0..layer.axes.len())
                .any(|axis| layer.axes[axis].role == AxisRole::Made && has(layer, axis));
            let ranked = layer
                .ranked
                .as_ref()
                .filter(|ranked| ranked.is_scale)
                .map(|scale| scale.axis)
                .filter(|&axis| has(layer, axis));
            let ranks = ranked.is_some_and(|axis| {
                removed_of(layer, axis)
                    .iter()
                    .all(|channel_group| channel_groups.contains(channel_group))
            });
            let reads =
                (0..layer.axes.len()).any(|axis| !is_made(&layer.axes[axis]) && has(layer, axis));
            let lists =
                [(&mut makers, makes), (&mut rankers, ranks), (&mut readers, reads && !ranks)];
            lists
                .into_iter()
                .filter(|(_, is_one)| *is_one)
                .for_each(|(list, _)| list.push(layer.path.clone()));
        }
        let (names, makers) =
            if rankers.is_empty() { (makers, Vec::new()) } else { (rankers, makers) };
        Self { channel_groups, names: once(names), makers: once(makers), readers: once(readers) }
    }
}

/// Whether the layer makes the channels of an axis, or a part of the channels that it makes.
fn is_made(axis: &AxisNode) -> bool {
    matches!(axis.role, AxisRole::Made | AxisRole::MadePart)
}

/// Each path once, in order, because a layer may be used several times.
fn once(paths: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    paths.into_iter().filter(|path| seen.insert(path.clone())).collect()
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group { names, makers, readers, .. } = self;
        write!(f, "channels of {}, which by the fields ", list(names))?;
        if !makers.is_empty() {
            write!(f, "{} make{} and ", list(makers), if makers.len() == 1 { "s" } else { "" })?;
        }
        if readers.is_empty() {
            f.write_str("nothing reads")
        } else {
            write!(f, "{} read{}", list(readers), if readers.len() == 1 { "s" } else { "" })
        }
    }
}

/// How many layers an error names.
const MOST_NAMES: usize = 4;

/// `a`, `b` and 3 more
fn list(paths: &[String]) -> String {
    let mut names: Vec<_> = paths.iter().take(MOST_NAMES).map(|path| format!("`{path}`")).collect();
    if paths.len() > MOST_NAMES {
        names.push(format!("{} more", paths.len() - MOST_NAMES));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
