//! Pairs each batch norm with the layer that it can be folded into, according to the wiring.

use super::form::ModelSnapshot;
use super::report::{DeployedNorm, NormOutcome};
use crate::analysis::{Graph, neighbours};
use crate::graph::{LayerKind, LayerNode, memory};

/// The outcome for each batch norm, in the order of the data flow: the layer that it is folded
/// into, or the reason why it is not.
pub(super) fn fates(
    graph: &Graph,
    form: &ModelSnapshot,
    can_fold: impl Fn(&str) -> bool,
) -> Vec<DeployedNorm> {
    let mut norms: Vec<DeployedNorm> = Vec::new();
    for node in graph.layers.iter().filter(|node| node.kind == LayerKind::BatchNorm) {
        if norms.iter().any(|norm| norm.path == node.path) {
            continue;
        }
        let fate = match maker(graph, form, &node.path) {
            Ok(into) if can_fold(&node.path) => NormOutcome::Folded { into },
            Ok(into) => NormOutcome::Identity { into },
            Err(reason) => NormOutcome::Left { reason },
        };
        norms.push(DeployedNorm { path: node.path.clone(), fate });
    }
    norms
}

/// The layer that a batch norm can be folded into. Each use of the batch norm has to be directly
/// and alone behind a use of the layer, and each use of the layer in front of a use of the batch
/// norm.
fn maker(graph: &Graph, form: &ModelSnapshot, norm: &str) -> Result<String, String> {
    let (layers, neighbours) = (&graph.layers, neighbours(graph));
    let mut maker: Option<&LayerNode> = None;
    for (index, _) in layers
        .iter()
        .enumerate()
        .filter(|(_, node)| node.path == norm && node.kind == LayerKind::BatchNorm)
    {
        let Some(behind_index) = neighbours.behind[index] else {
            return Err("no convolution or linear layer is directly in front of it".to_owned());
        };
        let behind = &layers[behind_index];
        if neighbours.norm[behind_index] != Some(index) {
            return Err(format!("`{}`, in front of it, is read by others too", behind.path));
        }
        // A negative scale makes the largest value the smallest.
        if neighbours.maximum[behind_index] {
            return Err(format!("a max-pool is between it and `{}`", behind.path));
        }
        if let Some(other) = maker.replace(behind).filter(|other| other.path != behind.path) {
            return Err(format!("it is used behind `{}` and behind `{}`", other.path, behind.path));
        }
    }
    let maker = maker.ok_or("the data flow does not have it")?;
    let path = maker.path.as_str();
    let elsewhere = |(index, node): (usize, &LayerNode)| {
        let behind = neighbours.norm[index];
        node.path == path && behind.is_none_or(|behind| layers[behind].path != norm)
    };
    if layers.iter().enumerate().any(elsewhere) {
        return Err(format!("`{path}`, in front of it, is used without it elsewhere"));
    }
    let is = |name: &'static str| {
        move |node: &LayerNode| {
            node.tensors
                .iter()
                .find(|bound| bound.name == name)
                .and_then(|bound| memory(&bound.tensor))
        }
    };
    let unreached = |path: &str| {
        Err(format!(
            "`deploy` cannot reach `{path}`: it is not a layer of tch or `slim_runtime::nn`, or the hand-written `layers_mut` of a struct around it does not visit it"
        ))
    };
    match form.weights(path) {
        Some(weights) if memory(&weights.weight) == is("weight")(maker) => {}
        _ => return unreached(path),
    }
    let node = layers.iter().find(|node| node.path == norm && node.kind == LayerKind::BatchNorm);
    match (form.norm(norm), node) {
        (Some(held), Some(node)) if memory(&held.statistics[0]) == is("running_mean")(node) => {
            Ok(path.to_owned())
        }
        _ => unreached(norm),
    }
}
