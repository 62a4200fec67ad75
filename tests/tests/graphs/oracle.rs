//! What a plan should say, found out by brute force from the graph and the scales: labels that spread until nothing changes, and for each class of
//! channels a run on plain numbers with that class's batch norms at zero, to see whether some reader would miss it.
//!
//! Nothing of the library is used, and nothing is clever.

use std::collections::HashMap;

use slim_runtime::Coupling;

use crate::graph::{Conv, Graph, Groups, Op, Spec, Value};
use crate::links::{Cell, Links, links};

/// What a plan should say.
#[derive(Debug, PartialEq)]
pub struct Expected {
    pub threshold: Option<f64>,
    pub removable: usize,
    pub cfg: String,
    pub layers: Vec<ExpectedLayer>,
}

#[derive(Debug, PartialEq)]
pub struct ExpectedLayer {
    pub layer: usize,
    pub axes: Vec<(&'static str, Vec<usize>)>,
    /// How many of its scores may go, and whether it keeps a channel only so as not to be empty. `None` where it scores nothing.
    pub scored: Option<(usize, bool)>,
}

/// `None` where nothing may be removed. `scales` are the γ of a norm.
pub fn expect(graph: &Graph, scales: impl Fn(usize) -> Vec<f64>, ratio: f64, coupling: Coupling) -> Option<Expected> {
    let links = links(graph);
    let labels = spread(links.cells, &links.equal);
    // The channels that scales rank, each scale once however often its layer or tensor is used.
    let mut entries: Vec<(usize, f64)> = Vec::new();
    for &(layer, cell) in &links.scales {
        entries.extend(scales(layer).into_iter().enumerate().map(|(channel, scale)| (labels[cell + channel], scale.abs())));
    }
    let score = |class: usize| {
        let all: Vec<f64> = entries.iter().filter(|entry| entry.0 == class).map(|entry| entry.1).collect();
        let sum: f64 = all.iter().sum();
        match coupling {
            _ if all.is_empty() => None,
            Coupling::Max => all.iter().copied().reduce(f64::max),
            Coupling::Sum => Some(sum),
            _ => Some(sum / all.len() as f64),
        }
    };
    let scores: HashMap<usize, f64> = entries.iter().filter_map(|&(class, _)| Some((class, score(class)?))).collect();
    let removable: HashMap<usize, bool> = scores.keys().map(|&class| (class, may_go(graph, &links, &labels, class))).collect();
    let may_go = |class: usize| removable.get(&class).copied().unwrap_or(false);

    let mut ranked: Vec<f64> = entries.iter().filter(|entry| may_go(entry.0)).map(|entry| scores[&entry.0]).collect();
    ranked.sort_by(f64::total_cmp);
    let count = ranked.len();
    let threshold = match ratio {
        _ if count == 0 => return None,
        0. => None,
        // Nothing tells the channels apart.
        _ if ranked[0] == ranked[count - 1] && removable.values().filter(|&&may_go| may_go).count() > 1 => return None,
        ratio => Some(ranked[((count as f64 * ratio) as usize).min(count - 1)]),
    };
    let mut keep: HashMap<usize, bool> = labels.iter().map(|&class| (class, true)).collect();
    if let Some(threshold) = threshold {
        keep.extend(scores.iter().map(|(&class, &score)| (class, !may_go(class) || score > threshold)));
    }
    // No list of channels that a layer has gets shorter than the layer needs, in the order of the layers.
    let mut floored = Vec::new();
    for (layer, axes) in &links.axes {
        for (name, cells) in axes {
            let classes: Vec<usize> = cells.iter().map(|&cell| labels[cell]).collect();
            let needed = needed(&graph.layers[*layer].spec, name).min(classes.len());
            while classes.iter().filter(|class| keep[class]).count() < needed {
                let lost = classes.iter().copied().filter(|class| !keep[class]);
                let best = lost.reduce(|best, class| if scores[&class] > scores[&best] { class } else { best });
                keep.extend(best.map(|best| (best, true)));
                floored.extend(best);
            }
        }
    }

    let kept = |cells: &[Cell]| (0..cells.len()).filter(|&position| keep[&labels[cells[position]]]).collect::<Vec<_>>();
    let (mut counted, mut met) = (Vec::new(), Vec::new());
    let (mut layers, mut cfg) = (Vec::new(), Vec::new());
    for (layer, axes) in &links.axes {
        let axes: Vec<_> = axes.iter().map(|(name, cells)| (*name, kept(cells), cells)).collect();
        let mut scored = None;
        match graph.layers[*layer].spec {
            Spec::Norm { affine, .. } => {
                // Whose tensors have all been met before is a norm that is applied once more.
                let tensors = ["weight", "bias", "running_mean", "running_var"].into_iter().skip(if affine { 0 } else { 2 });
                let tensors: Vec<_> = tensors.map(|name| graph.owner(*layer, name)).collect();
                if !tensors.iter().all(|tensor| met.contains(tensor)) {
                    cfg.push(axes[0].1.len().to_string());
                }
                met.extend(tensors);
                let scale = graph.owner(*layer, "weight");
                if affine && !counted.contains(&scale) {
                    counted.push(scale);
                    let classes = || axes[0].2.iter().map(|&cell| labels[cell]);
                    let floor = classes().any(|class| floored.contains(&class));
                    scored = Some((classes().filter(|&class| may_go(class)).count(), floor));
                }
            }
            Spec::MaxPool => cfg.push("'M'".to_owned()),
            _ => {}
        }
        layers.push(ExpectedLayer { layer: *layer, axes: axes.into_iter().map(|(name, kept, _)| (name, kept)).collect(), scored });
    }
    Some(Expected { threshold, removable: count, cfg: format!("[{}]", cfg.join(", ")), layers })
}

/// Which cells are equal, by the smallest of them.
fn spread(cells: usize, equal: &[(Cell, Cell)]) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..cells).collect();
    loop {
        let before = labels.clone();
        for &(a, b) in equal {
            let least = labels[a].min(labels[b]);
            (labels[a], labels[b]) = (least, least);
        }
        if labels == before {
            return labels;
        }
    }
}

/// Whether nothing that must stay is in a class, and every reader sees zeros in it once its scales and shifts are zero.
fn may_go(graph: &Graph, links: &Links, labels: &[usize], class: usize) -> bool {
    if links.held.iter().any(|&cell| labels[cell] == class) {
        return false;
    }
    let values = run(graph, links, labels, class);
    links.read.iter().filter(|&&cell| labels[cell] == class).all(|&cell| values[cell] == 0.)
}

/// A run on one number for each channel, by cell: positive, or zero for what carries zeros when the norms of `class` are zero.
/// What mixes channels gives something, whatever it reads.
fn run(graph: &Graph, links: &Links, labels: &[usize], class: usize) -> Vec<f64> {
    let mut values = vec![1.; links.cells];
    let mut next = graph.inputs.len();
    for op in &graph.ops {
        let first = next;
        next += graph.given(op);
        let at = |value: Value, channel: usize| links.values[value] + channel;
        let width = |value: Value| graph.shapes[value].width as usize;
        let outputs: Vec<f64> = match op {
            Op::Apply { layer, from } => {
                let input: Vec<f64> = (0..width(*from)).map(|channel| values[at(*from, channel)]).collect();
                match &graph.layers[*layer].spec {
                    Spec::Conv(conv) | Spec::ConvTranspose(conv) => match conv.groups {
                        Groups::Equal(_) => vec![1.; conv.outputs as usize],
                        Groups::Whole(groups) => {
                            let (inputs, outputs) = ((conv.inputs / groups) as usize, (conv.outputs / groups) as usize);
                            let bias = f64::from(u8::from(conv.bias));
                            let group = |output: usize| &input[output / outputs * inputs..][..inputs];
                            (0..conv.outputs as usize).map(|output| group(output).iter().sum::<f64>() + bias).collect()
                        }
                    },
                    Spec::Linear { outputs, .. } => vec![1.; *outputs as usize],
                    Spec::Norm { affine: true, .. } => {
                        let zero = |channel: usize| labels[at(*from, channel)] == class;
                        (0..width(*from)).map(|channel| if zero(channel) { 0. } else { 1. }).collect()
                    }
                    Spec::Norm { affine: false, .. } | Spec::GroupNorm { .. } | Spec::LayerNorm { .. } => vec![1.; width(*from)],
                    Spec::Shift { .. } => input.iter().map(|value| value + 1.).collect(),
                    Spec::Shuffle { groups, .. } => interleaved(&input, *groups as usize),
                    Spec::Scale { .. } | Spec::Split { .. } | Spec::Select { .. } | Spec::MaxPool => input,
                }
            }
            Op::Add(a, b) => (0..width(*a)).map(|channel| values[at(*a, channel)] + values[at(*b, channel)]).collect(),
            Op::Multiply(a, b, squash) => {
                let gate = |channel| if squash.is_some() { 0.5 } else { values[at(*b, channel)] };
                (0..width(*a)).map(|channel| values[at(*a, channel)] * gate(channel)).collect()
            }
            Op::Concat(parts) => parts.iter().flat_map(|&part| values[at(part, 0)..][..width(part)].to_vec()).collect(),
            Op::Chunk { from, index, .. } => values[at(*from, *index as usize * width(first))..][..width(first)].to_vec(),
            Op::ViewShuffle { from, groups } => interleaved(&values[at(*from, 0)..][..width(*from)], *groups as usize),
            Op::PixelShuffle { from, factor } => {
                values[at(*from, 0)..][..width(*from)].chunks((factor * factor) as usize).map(|block| block.iter().sum()).collect()
            }
            Op::Activate { from, .. } | Op::Mean { from } | Op::Expand { from } | Op::Keep { from } => {
                values[at(*from, 0)..][..width(*from)].to_vec()
            }
        };
        values[at(first, 0)..][..outputs.len()].copy_from_slice(&outputs);
    }
    values
}

/// The first of each part, then the second of each part, and so on.
pub fn interleaved<T: Copy>(all: &[T], parts: usize) -> Vec<T> {
    let size = all.len() / parts;
    let mut shuffled = Vec::new();
    for position in 0..size {
        shuffled.extend((0..parts).map(|part| all[part * size + position]));
    }
    shuffled
}

/// How many channels a layer needs: one, but two in each group of tch's own grouped convolutions, which with one would be taken for depthwise.
fn needed(spec: &Spec, axis: &str) -> usize {
    match spec {
        Spec::Conv(Conv { plain: true, groups: Groups::Equal(2..), .. }) if axis == "in" => 2,
        Spec::ConvTranspose(Conv { plain: true, groups: Groups::Equal(groups @ 2..), .. }) if axis == "in" => 2 * *groups as usize,
        _ => 1,
    }
}
