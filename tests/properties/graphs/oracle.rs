//! The expected plan, found by brute force from the graph and the scales: labels spread until
//! nothing changes, and for each class of channels (a channel group) a run on plain numbers, with
//! that class's batch norms at zero, shows whether a consumer would miss it.
//!
//! Nothing of the library is used, and nothing is optimised.

use std::collections::{BTreeSet, HashMap};

use slim_runtime::{Coupling, Rule, Scope, Slimming, Target};

use crate::graph::{Conv, Graph, Groups, Op, Spec, Value};
use crate::links::{Cell, Links, links};

/// The expected plan.
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
    /// `None` if the layer scores nothing.
    pub scored: Option<ExpectedScores>,
}

#[derive(Debug, PartialEq)]
pub struct ExpectedScores {
    pub removable: usize,
    /// `None` if the threshold is that of the whole network.
    pub threshold: Option<f64>,
    /// The number of channels that would stay without bounds, and the bounds that keep more.
    pub bounded: Option<(usize, Vec<Rule>)>,
}

/// Channels that compete with each other: the scales that rank them, and whether the target applies
/// to the whole network.
struct Contest {
    scales: Vec<usize>,
    is_global: bool,
}

/// The expected plan; `None` if nothing may be removed. `scales` gives γ of a norm.
pub fn expect(
    graph: &Graph,
    scales: impl Fn(usize) -> Vec<f64>,
    slimming: &Slimming,
) -> Option<Expected> {
    let links = links(graph);
    let labels = spread(links.cells, &links.equal);
    // The channels that scales rank. Each scale counts once, however often its layer or tensor is
    // used.
    let entries: Vec<Vec<(usize, f64)>> = links
        .scales
        .iter()
        .map(|&(layer, cell)| {
            scales(layer)
                .into_iter()
                .enumerate()
                .map(|(channel, scale)| (labels[cell + channel], scale.abs()))
                .collect()
        })
        .collect();
    let score = |class: usize| {
        let all: Vec<f64> = entries
            .iter()
            .flatten()
            .filter(|entry| entry.0 == class)
            .map(|entry| entry.1)
            .collect();
        let sum: f64 = all.iter().sum();
        match slimming.coupling {
            _ if all.is_empty() => None,
            Coupling::Max => all.iter().copied().reduce(f64::max),
            Coupling::Sum => Some(sum),
            _ => Some(sum / all.len() as f64),
        }
    };
    let scores: HashMap<usize, f64> =
        entries.iter().flatten().filter_map(|&(class, _)| Some((class, score(class)?))).collect();
    let removable: HashMap<usize, bool> =
        scores.keys().map(|&class| (class, may_go(graph, &links, &labels, class))).collect();
    let may_go = |class: usize| removable.get(&class).copied().unwrap_or(false);
    let count = entries.iter().flatten().filter(|entry| may_go(entry.0)).count();
    if count == 0 {
        return None;
    }

    let mut contests = Vec::new();
    match slimming.scope {
        Scope::Global => {
            contests.push(Contest { scales: (0..entries.len()).collect(), is_global: true });
        }
        _ => {
            // Scales that share a class compete together.
            let share = |a: usize, b: usize| {
                entries[a].iter().any(|(class, _)| {
                    may_go(*class) && entries[b].iter().any(|entry| entry.0 == *class)
                })
            };
            let pairs: Vec<_> = (0..entries.len())
                .flat_map(|a| (0..a).map(move |b| (a, b)))
                .filter(|&(a, b)| share(a, b))
                .collect();
            let group = spread(entries.len(), &pairs);
            for first in 0..entries.len() {
                let members: Vec<_> =
                    (0..entries.len()).filter(|&scale| group[scale] == first).collect();
                if !members.is_empty() {
                    contests.push(Contest { scales: members, is_global: false });
                }
            }
        }
    }
    let ranked = |contest: &Contest| {
        let all = contest.scales.iter().flat_map(|&scale| &entries[scale]);
        all.map(|entry| entry.0).filter(|&class| may_go(class)).collect::<Vec<_>>()
    };
    // There is no plan if nothing tells the channels apart. With a local scope, all scores of a
    // layer may be zero.
    let distinct = |classes: &[usize]| classes.iter().collect::<BTreeSet<_>>().len();
    let apart =
        |classes: &[usize]| classes.iter().any(|class| scores[class] != scores[&classes[0]]);
    let contested: Vec<_> =
        contests.iter().map(ranked).filter(|classes| distinct(classes) > 1).collect();
    let asks = !matches!(slimming.target, Target::Ratio(0.) | Target::Threshold(_));
    let is_global = slimming.scope == Scope::Global;
    if asks
        && contested
            .iter()
            .any(|classes| !apart(classes) && (is_global || scores[&classes[0]] > 0.))
    {
        return None;
    }

    let mut keep: HashMap<usize, bool> = labels.iter().map(|&class| (class, true)).collect();
    let mut unwanted = BTreeSet::new();
    let mut bound: HashMap<usize, Rule> = HashMap::new();
    let (mut threshold, mut own) = (None, vec![None; entries.len()]);
    for contest in &contests {
        let classes = ranked(contest);
        let mut sorted: Vec<f64> = classes.iter().map(|class| scores[class]).collect();
        sorted.sort_by(f64::total_cmp);
        // The smallest score first, and of equal scores the last channel.
        let mut order: Vec<usize> = Vec::new();
        for &class in &classes {
            if !order.contains(&class) {
                order.insert(0, class);
            }
        }
        order.sort_by(|a, b| scores[a].total_cmp(&scores[b]));
        let mut cut = match slimming.target {
            Target::Ratio(ratio) if ratio > 0. && !sorted.is_empty() => {
                Some(sorted[((sorted.len() as f64 * ratio) as usize).min(sorted.len() - 1)])
            }
            Target::Threshold(threshold) if !sorted.is_empty() => Some(threshold),
            _ => None,
        };
        let mut last = None;
        for class in order {
            let left = left(contest, &entries, &keep);
            let goes = match slimming.target {
                Target::TopK(k) => left > k,
                _ => cut.is_some_and(|cut| scores[&class] <= cut),
            };
            if !goes {
                continue;
            }
            last = Some(scores[&class]);
            unwanted.insert(class);
            keep.insert(class, false);
            if let Some(rule) = broken(graph, &links, &labels, &keep, class, slimming) {
                keep.insert(class, true);
                bound.insert(class, rule);
            }
        }
        if let Target::TopK(k) = slimming.target {
            cut = last;
            if left(contest, &entries, &keep) > k && !classes.is_empty() {
                return None;
            }
        }
        if contest.is_global {
            threshold = cut;
        } else {
            contest.scales.iter().for_each(|&scale| own[scale] = cut);
        }
    }

    let kept = |cells: &[Cell]| {
        (0..cells.len()).filter(|&position| keep[&labels[cells[position]]]).collect::<Vec<_>>()
    };
    let (mut counted, mut met) = (Vec::new(), Vec::new());
    let (mut layers, mut cfg) = (Vec::new(), Vec::new());
    for (layer, axes) in &links.axes {
        let axes: Vec<_> = axes.iter().map(|(name, cells)| (*name, kept(cells), cells)).collect();
        let mut scored = None;
        match graph.layers[*layer].spec {
            Spec::Norm { affine, .. } => {
                // A norm whose tensors all occurred before is a repeated use.
                let tensors = ["weight", "bias", "running_mean", "running_var"]
                    .into_iter()
                    .skip(if affine { 0 } else { 2 });
                let tensors: Vec<_> = tensors.map(|name| graph.owner(*layer, name)).collect();
                if !tensors.iter().all(|tensor| met.contains(tensor)) {
                    cfg.push(axes[0].1.len().to_string());
                }
                met.extend(tensors);
                let scale = graph.owner(*layer, "weight");
                if affine && !counted.contains(&scale) {
                    counted.push(scale);
                    let classes = || axes[0].2.iter().map(|&cell| labels[cell]);
                    let mut by: Vec<Rule> = Vec::new();
                    for rule in classes().filter_map(|class| bound.get(&class)) {
                        if !by.contains(rule) {
                            by.push(*rule);
                        }
                    }
                    let wanted = classes().filter(|class| !unwanted.contains(class)).count();
                    scored = Some(ExpectedScores {
                        removable: classes().filter(|&class| may_go(class)).count(),
                        threshold: links
                            .scales
                            .iter()
                            .position(|scale| scale.0 == *layer)
                            .and_then(|scale| own[scale]),
                        bounded: (!by.is_empty()).then_some((wanted, by)),
                    });
                }
            }
            Spec::MaxPool => cfg.push("'M'".to_owned()),
            _ => {}
        }
        layers.push(ExpectedLayer {
            layer: *layer,
            axes: axes.into_iter().map(|(name, kept, _)| (name, kept)).collect(),
            scored,
        });
    }
    Some(Expected { threshold, removable: count, cfg: format!("[{}]", cfg.join(", ")), layers })
}

/// Labels each cell with the smallest cell that is equal to it.
pub fn spread(cells: usize, equal: &[(Cell, Cell)]) -> Vec<usize> {
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

/// Whether a class may be removed: no cell of it must stay, and every consumer reads zeros in it
/// once its scales and shifts are zero.
fn may_go(graph: &Graph, links: &Links, labels: &[usize], class: usize) -> bool {
    if links.held.iter().any(|&cell| labels[cell] == class) {
        return false;
    }
    let values = run(graph, links, labels, class);
    links.read.iter().filter(|&&cell| labels[cell] == class).all(|&cell| values[cell] == 0.)
}

/// A run on one number for each cell: zero if the channel is zero when the norms of `class` are
/// zero, else positive. Operations that mix channels give positive numbers for any input.
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
                let input: Vec<f64> =
                    (0..width(*from)).map(|channel| values[at(*from, channel)]).collect();
                match &graph.layers[*layer].spec {
                    Spec::Conv(conv) | Spec::ConvTranspose(conv) => match conv.groups {
                        Groups::Equal(_) => vec![1.; conv.outputs as usize],
                        Groups::Whole(groups) => {
                            let (inputs, outputs) =
                                ((conv.inputs / groups) as usize, (conv.outputs / groups) as usize);
                            let bias = f64::from(u8::from(conv.bias));
                            let group =
                                |output: usize| &input[output / outputs * inputs..][..inputs];
                            (0..conv.outputs as usize)
                                .map(|output| group(output).iter().sum::<f64>() + bias)
                                .collect()
                        }
                    },
                    Spec::Linear { outputs, .. } => vec![1.; *outputs as usize],
                    Spec::Norm { affine: true, .. } => {
                        let zero = |channel: usize| labels[at(*from, channel)] == class;
                        (0..width(*from))
                            .map(|channel| if zero(channel) { 0. } else { 1. })
                            .collect()
                    }
                    Spec::Norm { affine: false, .. }
                    | Spec::GroupNorm { .. }
                    | Spec::LayerNorm { .. } => vec![1.; width(*from)],
                    Spec::Shift { .. } => input.iter().map(|value| value + 1.).collect(),
                    Spec::Shuffle { groups, .. } => interleaved(&input, *groups as usize),
                    Spec::Scale { .. }
                    | Spec::Split { .. }
                    | Spec::Select { .. }
                    | Spec::MaxPool => input,
                }
            }
            Op::Add(a, b) => (0..width(*a))
                .map(|channel| values[at(*a, channel)] + values[at(*b, channel)])
                .collect(),
            Op::Multiply(a, b, squash) => {
                let gate = |channel| if squash.is_some() { 0.5 } else { values[at(*b, channel)] };
                (0..width(*a)).map(|channel| values[at(*a, channel)] * gate(channel)).collect()
            }
            Op::Concat(parts) => parts
                .iter()
                .flat_map(|&part| values[at(part, 0)..][..width(part)].to_vec())
                .collect(),
            Op::Chunk { from, index, .. } => {
                values[at(*from, *index as usize * width(first))..][..width(first)].to_vec()
            }
            Op::ViewShuffle { from, groups } => {
                interleaved(&values[at(*from, 0)..][..width(*from)], *groups as usize)
            }
            Op::PixelShuffle { from, factor } => values[at(*from, 0)..][..width(*from)]
                .chunks((factor * factor) as usize)
                .map(|block| block.iter().sum())
                .collect(),
            Op::Activate { from, .. }
            | Op::Mean { from }
            | Op::Expand { from }
            | Op::Keep { from } => values[at(*from, 0)..][..width(*from)].to_vec(),
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

/// The number of channels that are left: of the network, or of the scale that has the most.
fn left(contest: &Contest, entries: &[Vec<(usize, f64)>], keep: &HashMap<usize, bool>) -> usize {
    let left = contest
        .scales
        .iter()
        .map(|&scale| entries[scale].iter().filter(|entry| keep[&entry.0]).count());
    if contest.is_global { left.sum() } else { left.max().unwrap_or(0) }
}

/// The first bound that a network without this class would break.
fn broken(
    graph: &Graph,
    links: &Links,
    labels: &[usize],
    keep: &HashMap<usize, bool>,
    class: usize,
    slimming: &Slimming,
) -> Option<Rule> {
    for (layer, axes) in &links.axes {
        for (name, cells) in axes {
            let classes: Vec<usize> = cells.iter().map(|&cell| labels[cell]).collect();
            let left = classes.iter().filter(|class| keep[class]).count();
            let spec = &graph.layers[*layer].spec;
            let mut least = (needed(spec, name).min(classes.len()), Rule::Needed);
            if is_layers_own(spec, name) {
                let clamp = classes.len()
                    - slimming
                        .bounds
                        .max_removed
                        .map_or(classes.len(), |share| (classes.len() as f64 * share) as usize);
                let user = [
                    (slimming.bounds.at_least.unwrap_or(0).min(classes.len()), Rule::AtLeast),
                    (clamp, Rule::MaxRemoved),
                ];
                for bound in user {
                    if bound.0 > least.0 {
                        least = bound;
                    }
                }
            }
            if classes.contains(&class) && left < least.0 {
                return Some(least.1);
            }
        }
    }
    None
}

/// Whether an axis lists channels that the layer makes, or scales by its γ.
fn is_layers_own(spec: &Spec, axis: &str) -> bool {
    match spec {
        Spec::Conv(conv) | Spec::ConvTranspose(conv) => {
            axis == "out" && matches!(conv.groups, Groups::Equal(_))
        }
        Spec::Linear { .. } => axis == "out",
        Spec::Norm { affine, .. } => *affine,
        _ => false,
    }
}

/// The number of channels that a layer needs: one, but two in each group of tch's grouped
/// convolutions, which would be taken for depthwise with one.
fn needed(spec: &Spec, axis: &str) -> usize {
    match spec {
        Spec::Conv(Conv { plain: true, groups: Groups::Equal(2..), .. }) if axis == "in" => 2,
        Spec::ConvTranspose(Conv { plain: true, groups: Groups::Equal(groups @ 2..), .. })
            if axis == "in" =>
        {
            2 * *groups as usize
        }
        _ => 1,
    }
}
