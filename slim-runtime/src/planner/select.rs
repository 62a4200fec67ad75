//! Which classes of channels stay: the global threshold, then the floor.

use std::collections::HashSet;

use super::scores::Scores;
use crate::tracer::Graph;
use crate::{Error, Result};

/// What was chosen.
pub(super) struct Choice {
    pub(super) threshold: Option<f64>,
    /// By class: whether it stays.
    pub(super) keep: Vec<bool>,
    /// By class: whether a batch norm ranks it.
    pub(super) scored: Vec<bool>,
    /// Classes that stay only because a layer would have been left without channels.
    pub(super) floored: HashSet<usize>,
}

/// The rule of [`Slimming::ratio`](crate::Slimming::ratio).
pub(super) fn by_threshold(graph: &Graph, scores: &Scores, ratio: f64) -> Result<Choice> {
    let removable = |&class: &usize| graph.held[class].is_none();
    let mut ranked: Vec<f64> = scores.entries.iter().copied().filter(removable).filter_map(|class| scores.by_class[class]).collect();
    if ranked.is_empty() {
        return Err(Error::NothingToPrune { reason: why_nothing(graph, scores) });
    }
    ranked.sort_unstable_by(f64::total_cmp);
    if ratio > 0.0 && ranked.first() == ranked.last() && distinct(graph, scores) > 1 {
        return Err(Error::NoRanking { score: ranked[0] });
    }
    // The product is truncated as in the reference; just below 1 it can round up to N.
    let cut = ((ranked.len() as f64 * ratio) as usize).min(ranked.len() - 1);
    let threshold = (ratio > 0.0).then(|| ranked[cut]);
    let stays = |(score, held): (&Option<f64>, bool)| match (score, threshold) {
        (Some(score), Some(threshold)) => held || *score > threshold,
        _ => true,
    };
    let held = graph.held.iter().map(Option::is_some);
    let mut keep: Vec<bool> = scores.by_class.iter().zip(held).map(stays).collect();
    let floored = raise_to_floor(graph, scores, &mut keep);
    let scored = scores.by_class.iter().map(Option::is_some).collect();
    Ok(Choice { threshold, keep, scored, floored })
}

/// How many classes could be removed.
fn distinct(graph: &Graph, scores: &Scores) -> usize {
    scores.entries.iter().filter(|&&class| graph.held[class].is_none()).collect::<HashSet<_>>().len()
}

/// Keeps the best classes, the first of equals, of every list of channels that would end up with fewer than its layer needs.
fn raise_to_floor(graph: &Graph, scores: &Scores, keep: &mut [bool]) -> HashSet<usize> {
    let mut floored = HashSet::new();
    for axis in graph.layers.iter().flat_map(|layer| &layer.axes) {
        let classes = || axis.ids.iter().map(|&id| graph.class(id));
        while classes().filter(|&class| keep[class]).count() < axis.least.min(axis.ids.len()) {
            let better = |best: Option<usize>, class: usize| match best {
                Some(best) if scores.by_class[best] >= scores.by_class[class] => Some(best),
                _ => Some(class),
            };
            let Some(best) = classes().filter(|&class| !keep[class]).fold(None, better) else { break };
            keep[best] = true;
            floored.insert(best);
        }
    }
    floored
}

fn why_nothing(graph: &Graph, scores: &Scores) -> String {
    let hold = scores.entries.iter().find_map(|&class| graph.held[class].as_deref());
    match hold {
        None => "the data flow has no batch norm with a scale (γ) to rank channels by; put one behind a convolution, or check that its field is not marked `#[prune(skip)]`".to_owned(),
        Some(hold) => format!("every channel that a batch norm ranks must stay, the first of them for this reason: {hold}"),
    }
}
