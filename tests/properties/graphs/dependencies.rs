//! The library's dependencies: the tests find producers and consumers by walking the graph, and
//! channel groups by plans.

use std::collections::{BTreeMap, BTreeSet};

use slim_runtime::dependencies::ChannelRole;
use slim_runtime::{Coupling, Dependencies, LayerKind, Plan, Prunable, Slimming};
use tch::Tensor;

use crate::graph::{Graph, Op, Spec};
use crate::net::Net;
use crate::oracle::interleaved;

/// The expected edges between uses of layers, numbered in order: producer and consumer.
pub fn expected_edges(graph: &Graph) -> BTreeSet<(usize, usize)> {
    // For each value and channel, the uses that produce it.
    let mut givers: Vec<Vec<BTreeSet<usize>>> = Vec::new();
    givers.extend(graph.inputs.iter().map(|&width| vec![BTreeSet::new(); width as usize]));
    let union = |sets: &[BTreeSet<usize>]| sets.iter().flatten().copied().collect::<BTreeSet<_>>();
    let (mut edges, mut uses) = (BTreeSet::new(), 0);
    for op in &graph.ops {
        let first = givers.len();
        let width = graph.shapes[first].width as usize;
        let given: Vec<BTreeSet<usize>> = match op {
            // A pool has no channels of its own, and a flatten belongs to the linear layer.
            Op::Apply { layer, from } if matches!(graph.layers[*layer].spec, Spec::MaxPool) => {
                givers[*from].clone()
            }
            Op::Apply { layer, from } => {
                edges.extend(union(&givers[*from]).into_iter().map(|giver| (giver, uses)));
                let given = graph.applied(&graph.layers[*layer].spec, graph.shapes[*from]).unwrap();
                givers.extend(
                    given.iter().map(|shape| vec![BTreeSet::from([uses]); shape.width as usize]),
                );
                uses += 1;
                continue;
            }
            Op::Activate { from, .. }
            | Op::Mean { from }
            | Op::Expand { from }
            | Op::Keep { from } => givers[*from].clone(),
            Op::Add(a, b) | Op::Multiply(a, b, _) => {
                let of = |value: usize, channel: usize| {
                    givers[value][channel % givers[value].len()].clone()
                };
                (0..width).map(|channel| union(&[of(*a, channel), of(*b, channel)])).collect()
            }
            Op::Concat(parts) => parts.iter().flat_map(|&part| givers[part].clone()).collect(),
            Op::Chunk { from, index, .. } => {
                givers[*from][*index as usize * width..][..width].to_vec()
            }
            Op::ViewShuffle { from, groups } => {
                interleaved(&givers[*from].iter().collect::<Vec<_>>(), *groups as usize)
                    .into_iter()
                    .cloned()
                    .collect()
            }
            Op::PixelShuffle { from, factor } => {
                givers[*from].chunks((factor * factor) as usize).map(union).collect()
            }
        };
        givers.push(given);
    }
    edges
}

/// Asserts that the channels of a channel group all stay or all go in this plan, and that every
/// channel is in exactly one group.
pub fn assert_is_of_one_mind(dependencies: &Dependencies, plan: &Plan) {
    let mut fates: BTreeMap<usize, bool> = BTreeMap::new();
    for (layer, planned) in dependencies.layers.iter().zip(planned(plan)) {
        assert_eq!((&layer.path, &layer.kind), (&planned.path, &planned.kind));
        for axis in &layer.axes {
            let keep = planned.axis(&axis.name).unwrap();
            assert_eq!((axis.width, axis.channel_groups().len()), (keep.width, keep.width));
            let kept: BTreeSet<usize> = keep.keep.iter().collect();
            for (position, &channel_group) in axis.channel_groups().iter().enumerate() {
                let stays = kept.contains(&position);
                assert_eq!(
                    *fates.entry(channel_group).or_insert(stays),
                    stays,
                    "{}.{}[{position}]",
                    layer.path,
                    axis.name
                );
            }
        }
    }
    let mut positions: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for (index, group) in dependencies.groups.iter().enumerate() {
        assert_eq!(group.number, index + 1);
        let mut channel_groups = BTreeSet::new();
        for member in &group.members {
            let axis = dependencies.layers[member.layer].axis(&member.axis).unwrap();
            channel_groups
                .extend(member.positions.iter().map(|position| axis.channel_groups()[position]));
            positions
                .entry((member.layer, &member.axis))
                .or_default()
                .extend(member.positions.iter());
        }
        assert_eq!(channel_groups.len(), group.channels);
        assert!(
            group.held.is_none() || channel_groups.iter().all(|channel_group| fates[channel_group]),
            "group {} is held",
            group.number
        );
    }
    for (index, layer) in dependencies.layers.iter().enumerate() {
        for axis in &layer.axes {
            let mut found = positions.remove(&(index, axis.name.as_str())).unwrap_or_default();
            found.sort_unstable();
            assert_eq!(
                found,
                (0..axis.width).collect::<Vec<_>>(),
                "the groups of {}.{}",
                layer.path,
                axis.name
            );
        }
    }
}

/// The layers with channels, as in a plan.
fn planned(plan: &Plan) -> impl Iterator<Item = &slim_runtime::LayerPlan> {
    plan.layers().iter().filter(|layer| !layer.axes.is_empty())
}

/// Sets γ of one channel group to zero, and asserts that this channel group alone goes, at all its
/// positions, in all layers of its group and in no other. Returns whether it went.
pub fn assert_goes_alone(net: &Net, dependencies: &Dependencies, pick: usize) -> bool {
    let free: Vec<_> = dependencies.groups.iter().filter(|group| group.held.is_none()).collect();
    if free.is_empty() {
        return false;
    }
    let group = free[pick % free.len()];
    let channel_groups: BTreeSet<usize> = group
        .members
        .iter()
        .flat_map(|member| {
            let channel_groups =
                dependencies.layers[member.layer].axis(&member.axis).unwrap().channel_groups();
            member.positions.iter().map(|position| channel_groups[position])
        })
        .collect();
    let channel_group = *channel_groups.iter().nth(pick % channel_groups.len()).unwrap();
    set_scales(net, dependencies, channel_group);
    let Ok(plan) = net.plan(&Slimming::threshold(0.5).coupling(Coupling::Max)) else {
        panic!("nothing goes")
    };
    let mut changed = BTreeSet::new();
    let mut gone = BTreeSet::new();
    for (index, (layer, planned)) in dependencies.layers.iter().zip(planned(&plan)).enumerate() {
        for axis in &layer.axes {
            let keep: BTreeSet<usize> = planned.axis(&axis.name).unwrap().keep.iter().collect();
            for position in (0..axis.width).filter(|position| !keep.contains(position)) {
                gone.insert(axis.channel_groups()[position]);
                changed.insert((index, axis.name.clone()));
            }
        }
    }
    if gone.is_empty() {
        // A layer would have lost all its channels.
        assert!(
            plan.bounded().next().is_some(),
            "channel group {channel_group} of group {} does not go, and no bound says why",
            group.number
        );
        return false;
    }
    assert_eq!(gone, BTreeSet::from([channel_group]));
    assert_eq!(
        changed,
        group.members.iter().map(|member| (member.layer, member.axis.clone())).collect()
    );
    true
}

/// Sets the scales to 0 for the channel group, and to 1 for all others.
fn set_scales(net: &Net, dependencies: &Dependencies, channel_group: usize) {
    let _no_grad = tch::no_grad_guard();
    let scales = dependencies
        .groups
        .iter()
        .flat_map(|group| &group.members)
        .filter(|member| member.role == ChannelRole::Scales);
    let scales: BTreeSet<usize> = scales.map(|member| member.layer).collect();
    for layer in scales.into_iter().map(|layer| &dependencies.layers[layer]) {
        assert_eq!(layer.kind, LayerKind::BatchNorm);
        let values: Vec<f64> = layer.axes[0]
            .channel_groups()
            .iter()
            .map(|&of| if of == channel_group { 0. } else { 1. })
            .collect();
        let number: usize = layer.path.strip_prefix('l').unwrap().parse().unwrap();
        net.tensors[number]["weight"].shallow_clone().copy_(&Tensor::from_slice(&values));
    }
}
