//! Pairs each batch norm with the layer that it can be folded into, according to the wiring.

use std::collections::HashMap;

use super::fold::{Affine, ByInput};
use super::form::{LayerInfo, ModelSnapshot, Norm};
use super::report::{DeployedNorm, NormOutcome};
use crate::analysis::{Consumer, Graph, consumer, neighbours};
use crate::graph::{BiasExactness, LayerKind, LayerNode, Memory, memory};
use crate::{Error, Result};

/// The outcome for each batch norm.
pub(super) struct Pairs {
    /// In the order of the data flow.
    pub(super) norms: Vec<DeployedNorm>,
    /// The change of the layer, by path of the batch norm, of those that are folded into the layer
    /// behind them.
    pub(super) behind: HashMap<String, ByInput>,
}

/// The outcome for each batch norm: the layer that it is folded into, in front of it or else behind
/// it, or the reason why it is not.
///
/// # Errors
/// [`Error::Torch`].
pub(super) fn fates(
    graph: &Graph,
    form: &ModelSnapshot,
    traits: &HashMap<String, LayerInfo>,
) -> Result<Pairs> {
    let mut pairs = Pairs { norms: Vec::new(), behind: HashMap::new() };
    for node in graph.layers.iter().filter(|node| node.kind == LayerKind::BatchNorm) {
        if pairs.norms.iter().any(|norm| norm.path == node.path) {
            continue;
        }
        let into = match maker(graph, form, &node.path) {
            Ok(into) => Ok(into),
            Err(front) => match behind(graph, form, traits, &node.path)? {
                Ok((into, change)) => {
                    pairs.behind.insert(node.path.clone(), change);
                    Ok(into)
                }
                Err(behind) => Err(format!("{front}; behind it, {behind}")),
            },
        };
        let is_skipped =
            matches!(traits.get(&node.path), Some(LayerInfo::Norm { folds: true, .. }));
        let fate = match into {
            Ok(into) if is_skipped => NormOutcome::Folded { into },
            Ok(into) => NormOutcome::Identity { into },
            Err(reason) => NormOutcome::Left { reason },
        };
        pairs.norms.push(DeployedNorm { path: node.path.clone(), fate });
    }
    Ok(pairs)
}

/// The layer behind a batch norm that it can be folded into, and the change of that layer; or why
/// there is none. The batch norm and the layer have to be used once.
///
/// # Errors
/// [`Error::Torch`].
fn behind(
    graph: &Graph,
    form: &ModelSnapshot,
    traits: &HashMap<String, LayerInfo>,
    norm: &str,
) -> Result<std::result::Result<(String, ByInput), String>> {
    let uses = |path: &str| -> Vec<usize> {
        let indices = graph.layers.iter().enumerate();
        indices.filter(|(_, node)| node.path == path).map(|(index, _)| index).collect()
    };
    let [index] = uses(norm)[..] else { return Ok(Err("it is used more than once".to_owned())) };
    let consumer = match consumer(graph, index) {
        Ok(consumer) => consumer,
        Err(reason) => return Ok(Err(reason)),
    };
    let path = &consumer.layer.path;
    if uses(path).len() > 1 {
        return Ok(Err(format!("`{path}` is used more than once")));
    }
    let node = &graph.layers[index];
    let (true, Some(held), Some(&LayerInfo::Norm { eps, .. })) =
        (reached(form, consumer.layer), reached_norm(form, node), traits.get(norm))
    else {
        return Ok(Err(format!("`deploy` cannot reach both it and `{path}`")));
    };
    let affine = Affine::new(held, eps).map_err(Error::torch(norm))?;
    if let Some(reason) = inexact(&consumer, &affine) {
        return Ok(Err(reason));
    }
    let change = ByInput::new(&consumer, &affine).map_err(Error::torch(norm))?;
    Ok(Ok((path.clone(), change)))
}

/// Why the layer would compute something else with the batch norm folded into it.
fn inexact(consumer: &Consumer, affine: &Affine) -> Option<String> {
    let path = &consumer.layer.path;
    let negative = affine.scale.iter().filter(|&&scale| scale < 0.0).count();
    if let (Some(pool), 1..) = (consumer.increasing, negative) {
        // A negative scale makes the largest value the smallest.
        let s = if negative == 1 { "" } else { "s" };
        return Some(format!(
            "`{pool}` is in front of `{path}`, and the scale of {negative} channel{s} is negative"
        ));
    }
    if affine.shift.iter().all(|&shift| shift == 0.0) {
        return None;
    }
    let missing = "where its shift would be missing";
    match (consumer.border, consumer.mix.reach) {
        (Some(pad), _) => Some(format!("`{pad}` puts zeros around what `{path}` reads, {missing}")),
        (None, BiasExactness::Interior) => Some(format!("`{path}` pads with zeros, {missing}")),
        (None, BiasExactness::Nowhere) => {
            Some(format!("`{path}` turns its shift into a pattern, since it has a stride"))
        }
        (None, BiasExactness::Everywhere) => None,
    }
}

/// The layer that a batch norm can be folded into. Each use of the batch norm has to be directly
/// and alone behind a use of the layer, and each use of the layer in front of a use of the batch
/// norm.
fn maker(graph: &Graph, form: &ModelSnapshot, norm: &str) -> std::result::Result<String, String> {
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
    let unreached = |path: &str| {
        Err(format!(
            "`deploy` cannot reach `{path}`: it is not a layer of tch or `slim_runtime::nn`, or the hand-written `layers_mut` of a struct around it does not visit it"
        ))
    };
    if !reached(form, maker) {
        return unreached(path);
    }
    let node = layers.iter().find(|node| node.path == norm && node.kind == LayerKind::BatchNorm);
    match node.and_then(|node| reached_norm(form, node)) {
        Some(_) => Ok(path.to_owned()),
        None => unreached(norm),
    }
}

/// Whether the snapshot has the weight that the wiring shows.
fn reached(form: &ModelSnapshot, layer: &LayerNode) -> bool {
    form.weights(&layer.path)
        .is_some_and(|weights| memory(&weights.weight) == bound(layer, "weight"))
}

/// The tensors of a batch norm, if they are those that the wiring shows.
fn reached_norm<'f>(form: &'f ModelSnapshot, norm: &LayerNode) -> Option<&'f Norm> {
    form.norm(&norm.path).filter(|held| memory(&held.statistics[0]) == bound(norm, "running_mean"))
}

/// Storage identity of a tensor of a layer.
fn bound(layer: &LayerNode, name: &str) -> Option<Memory> {
    let found = layer.tensors.iter().find(|bound| bound.name == name);
    found.and_then(|bound| memory(&bound.tensor))
}
