//! Layers that are applied in several places, and tensors that several layers share.

use crate::gene::Gene;
use crate::graph::{Conv, Groups, Spec, Tie, Value};
use crate::grow::{Grower, WIDEST};

/// Applies an existing layer again.
pub fn again(grower: &mut Grower, gene: &Gene) -> Option<()> {
    let graph = &grower.graph;
    let layers = 0..graph.layers.len();
    let fits = |&(layer, from): &(usize, Value)| {
        let spec = &graph.layers[layer].spec;
        !matches!(spec, Spec::MaxPool) && graph.applied(spec, graph.shapes[from]).is_some()
    };
    let fitting: Vec<_> = layers
        .flat_map(|layer| (0..graph.shapes.len()).map(move |value| (layer, value)))
        .filter(fits)
        .collect();
    let (layer, from) = gene.pick(0, &fitting)?;
    let to = grower.apply(layer, from);
    if gene.flag(9) && !matches!(grower.graph.layers[layer].spec, Spec::Split { .. }) {
        grower.tail(gene, to);
    }
    Some(())
}

/// Adds a layer with tensors of another layer, applied to a value that it can read.
pub fn tie(grower: &mut Grower, gene: &Gene) -> Option<()> {
    let graph = &grower.graph;
    let twins = graph.layers.iter().enumerate().flat_map(|(layer, owner)| {
        let specs = twins(gene, &owner.spec);
        specs.into_iter().map(move |(spec, ties)| (layer, spec, ties))
    });
    let twins: Vec<_> = twins.collect();
    let fitting = twins.iter().enumerate().flat_map(|(twin, (_, spec, _))| {
        let values = 0..graph.shapes.len();
        values
            .filter(move |&value| graph.applied(spec, graph.shapes[value]).is_some())
            .map(move |value| (twin, value))
    });
    let fitting: Vec<_> = fitting.collect();
    let (twin, from) = gene.pick(0, &fitting)?;
    let (owner, spec, ties) = twins[twin].clone();
    let ties = ties
        .into_iter()
        .map(|(name, there)| Tie { name, owner: graph.owner(owner, there) })
        .collect();
    let gives_one = !matches!(spec, Spec::Split { .. });
    let to = grower.layer(spec, from);
    grower.graph.layers.last_mut()?.ties = ties;
    if gene.flag(9) && gives_one {
        grower.tail(gene, to);
    }
    Some(())
}

/// Adds a batch norm behind a scale, with the same tensor: it ranks channels in the batch norm, and
/// only scales them in front.
pub fn tie_norm(grower: &mut Grower, gene: &Gene, scaled: Value) {
    let graph = &grower.graph;
    let ties = vec![Tie { name: "weight", owner: graph.owner(graph.layers.len() - 1, "value") }];
    let norm = Spec::Norm { shape: graph.shapes[scaled], affine: true, plain: gene.flag(2) };
    grower.layer(norm, scaled);
    grower.graph.layers.last_mut().unwrap().ties = ties;
}

/// A name here, and the owner's name of the same tensor.
type Names = Vec<(&'static str, &'static str)>;

/// Layers that can share tensors with `owner`.
fn twins(gene: &Gene, owner: &Spec) -> Vec<(Spec, Names)> {
    let weight = || vec![("weight", "weight")];
    let mut twins = Vec::new();
    match owner {
        Spec::Conv(conv) => {
            twins.push((Spec::Conv(conv.clone()), weight()));
            let (outputs, part) = (conv.outputs, conv.inputs / conv.groups.count());
            if let Groups::Whole(_) = conv.groups {
                // The weight's second dimension has the inputs of a group: free in the owner, an
                // axis in the twin.
                let whole = Conv { inputs: part, groups: Groups::Equal(1), ..conv.clone() };
                twins.push((Spec::Conv(whole), weight()));
            } else if conv.groups == Groups::Equal(1) {
                for groups in
                    (2..=outputs).filter(|groups| outputs % groups == 0 && part * groups <= WIDEST)
                {
                    let grouped = Conv {
                        inputs: part * groups,
                        groups: Groups::Whole(groups),
                        plain: false,
                        ..conv.clone()
                    };
                    twins.push((Spec::Conv(grouped), weight()));
                }
                // An autoencoder's decoder: its inputs are the outputs of the owner.
                let decoder = Conv { inputs: outputs, outputs: part, ..conv.clone() };
                twins.push((Spec::ConvTranspose(Conv { bias: gene.flag(1), ..decoder }), weight()));
            }
        }
        Spec::ConvTranspose(conv) => twins.push((Spec::ConvTranspose(conv.clone()), weight())),
        Spec::Linear { bias, .. } => {
            let both = vec![("weight", "weight"), ("bias", "bias")];
            twins.push((owner.clone(), if *bias && gene.flag(10) { both } else { weight() }));
        }
        Spec::Norm { shape, affine: true, .. } => {
            let names = [
                vec![("weight", "weight")],
                vec![("weight", "weight"), ("bias", "bias")],
                vec![("bias", "bias")],
            ];
            twins.push((owner.clone(), names[gene.number(1, 3) as usize].clone()));
            twins.push((Spec::Scale { shape: *shape }, vec![("value", "weight")]));
        }
        Spec::Scale { .. } => {
            twins.push((owner.clone(), vec![("value", "value")]));
        }
        _ => {}
    }
    twins
}
