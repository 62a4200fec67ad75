//! The batch norms that can be folded, found from the graph alone.

use std::collections::BTreeSet;

use slim_runtime::error::CheckError;
use slim_runtime::{Deployed, Error, NormOutcome, deploy};
use tch::Tensor;

use crate::check::assert_close;
use crate::graph::{Conv, Graph, Groups, Op, Spec, Value};
use crate::grow::reads;
use crate::net::{Net, name};

/// Deploys, and compares with the outputs before. `None` if the outputs cannot show a difference.
pub fn assert_deployed_is_the_network(net: &mut Net) -> Option<Deployed> {
    let images = net.images();
    let before = net.forward(&images);
    let all = |net: &Net, images: &Vec<Tensor>| {
        Tensor::cat(
            &net.forward(images).iter().map(|output| output.flatten(0, -1)).collect::<Vec<_>>(),
            0,
        )
    };
    match deploy(net, &images, all) {
        Ok(deployed) => {
            assert_close(&net.forward(&images), &before);
            Some(deployed)
        }
        Err(Error::Check(CheckError::Unverified { .. })) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Names of the batch norms that were folded into a layer.
pub fn found(deployed: &Deployed) -> BTreeSet<String> {
    deployed
        .norms
        .iter()
        .filter(|norm| !matches!(norm.fate, NormOutcome::Left { .. }))
        .map(|norm| norm.path.clone())
        .collect()
}

/// Names of the batch norms that have to be folded, and of those that may be.
///
/// A batch norm has to be if all of its uses are behind uses of one layer, which is used nowhere
/// else, and which nothing else reads. So has one that is used once, in front of the one use of a
/// layer without a border that alone reads it. Whether others in front of a layer are folded
/// depends on values: a border needs a shift of zero, a max-pool scales that are not negative.
pub fn expected(graph: &Graph) -> [BTreeSet<String>; 2] {
    let uses =
        |layer: usize| {
            graph.ops.iter().enumerate().filter(
                move |(_, op)| matches!(op, Op::Apply { layer: used, .. } if *used == layer),
            )
        };
    let given: Vec<Value> = graph
        .ops
        .iter()
        .scan(graph.inputs.len(), |next, op| Some(std::mem::replace(next, *next + graph.given(op))))
        .collect();
    let [mut found, mut possible] = [BTreeSet::new(), BTreeSet::new()];
    for layer in (0..graph.layers.len())
        .filter(|&layer| matches!(graph.layers[layer].spec, Spec::Norm { .. }))
    {
        if let [(index, _)] = uses(layer).collect::<Vec<_>>()[..]
            && let Some((consumer, is_exact)) = consumer(graph, &given, given[index])
            && uses(consumer).count() == 1
        {
            if is_exact {
                found.insert(name(layer));
            } else {
                possible.insert(name(layer));
            }
        }
        let mut makers: Vec<_> = uses(layer).map(|(_, op)| maker(graph, &given, op)).collect();
        let norms = makers.len();
        makers.dedup();
        if let [Some(maker)] = makers[..]
            && uses(maker).count() == norms
        {
            found.insert(name(layer));
        }
    }
    [found, possible]
}

/// The layer that alone reads a value, behind operations that only move channels or pool them, and
/// whether it takes any scale and shift of each channel.
fn consumer(graph: &Graph, given: &[Value], mut value: Value) -> Option<(usize, bool)> {
    let mut is_exact = true;
    loop {
        if graph.outputs.contains(&value) {
            return None;
        }
        let is_read = |value: &Value| {
            graph.outputs.contains(value) || graph.ops.iter().any(|op| reads(op).contains(value))
        };
        let readers = graph.ops.iter().enumerate().filter(|(_, op)| reads(op).contains(&value));
        let (live, dead): (Vec<_>, Vec<_>) = readers.partition(|&(index, _)| {
            (given[index]..given[index] + graph.given(&graph.ops[index]))
                .any(|value| is_read(&value))
        });
        // What nothing reads may be changed, next to the layer.
        is_exact &= dead.is_empty();
        let [(index, op)] = live[..] else { return None };
        value = given[index];
        match *op {
            Op::Mean { .. } | Op::Keep { .. } => {}
            Op::Expand { .. } | Op::Chunk { .. } | Op::ViewShuffle { .. } => is_exact = false,
            Op::Apply { layer, .. } => match &graph.layers[layer].spec {
                Spec::Linear { .. } => return Some((layer, is_exact)),
                Spec::Conv(Conv { groups: Groups::Equal(groups), kernel, circular, .. }) => {
                    let has_border = *kernel > 1 && !circular;
                    return Some((layer, is_exact && *groups == 1 && !has_border));
                }
                Spec::ConvTranspose(Conv { groups: Groups::Equal(_), .. }) => {
                    return Some((layer, false));
                }
                Spec::MaxPool | Spec::Shuffle { .. } | Spec::Select { .. } => is_exact = false,
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// The layer in front of an op, if the op alone reads it and it can take a batch norm.
fn maker(graph: &Graph, given: &[Value], op: &Op) -> Option<usize> {
    let Op::Apply { mut from, .. } = *op else { return None };
    loop {
        let readers: usize = graph
            .ops
            .iter()
            .map(|op| reads(op).iter().filter(|&&value| value == from).count())
            .sum();
        let outputs = graph.outputs.iter().filter(|&&output| output == from).count();
        if readers + outputs != 1 {
            return None;
        }
        let index = given.iter().position(|&value| value == from)?;
        match graph.ops[index] {
            // A mean averages over positions, and `Keep` does nothing.
            Op::Mean { from: before } | Op::Keep { from: before } => from = before,
            Op::Apply { layer, .. } => {
                return matches!(
                    graph.layers[layer].spec,
                    Spec::Conv(_) | Spec::ConvTranspose(_) | Spec::Linear { .. }
                )
                .then_some(layer);
            }
            _ => return None,
        }
    }
}
