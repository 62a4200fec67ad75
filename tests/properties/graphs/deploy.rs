//! The batch norms that can be folded, found from the graph alone.

use std::collections::BTreeSet;

use slim_runtime::error::CheckError;
use slim_runtime::{Deployed, Error, NormOutcome, deploy};
use tch::Tensor;

use crate::check::assert_close;
use crate::graph::{Graph, Op, Spec, Value};
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

/// Names of the batch norms all of whose uses are behind uses of one layer. That layer is used
/// nowhere else, and nothing else reads it.
pub fn expected(graph: &Graph) -> BTreeSet<String> {
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
    let mut found = BTreeSet::new();
    for layer in (0..graph.layers.len())
        .filter(|&layer| matches!(graph.layers[layer].spec, Spec::Norm { .. }))
    {
        let mut makers: Vec<_> = uses(layer).map(|(_, op)| maker(graph, &given, op)).collect();
        let norms = makers.len();
        makers.dedup();
        if let [Some(maker)] = makers[..]
            && uses(maker).count() == norms
        {
            found.insert(name(layer));
        }
    }
    found
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
