//! Distribution of |γ| during training: whether channels to remove separate from the others.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use slim_runtime::criterion::{self, LayerScores};
use slim_runtime::{Prunable, Slimming, Warning};

/// |γ| is near zero below this share of the largest |γ|.
const NEAR_ZERO: f64 = 1e-3;
/// Decades of the histogram's edges above 0, with two edges each.
const DECADES: std::ops::RangeInclusive<i32> = -8..=1;

/// Distribution of |γ| over the channels of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GammaStats {
    /// The largest |γ|.
    pub max: f64,
    /// The share of channels whose |γ| is below a thousandth of the largest, in [0, 1].
    pub near_zero: f64,
    /// Bounds of the histogram's bins: 0, then a logarithmic scale, the same for every network.
    pub edges: Vec<f64>,
    /// Number of |γ| in each bin, from its lower bound up to its upper one, exclusive. The last bin
    /// also counts larger values.
    pub counts: Vec<usize>,
    /// The gap at the watched ratio, if a ratio is watched and channels can be ranked.
    pub gap: Option<Gap>,
}

/// The channels that pruning at some ratio would remove, compared with those that would stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Share of channels to be removed, in [0, 1).
    pub percent: f64,
    /// The largest |γ| that would be removed.
    pub largest: f64,
    /// The median |γ| that would stay, over the layers that may lose channels.
    pub median: f64,
    /// Warnings of the plan.
    pub warnings: Vec<String>,
}

/// Statistics of a network's γ, and the warnings of a plan that removes the share `percent`. `None`
/// if the network has no γ.
///
/// # Errors
/// Errors of libtorch, and those of [`Prunable::trace`].
pub(super) fn health(
    net: &impl Prunable,
    percent: Option<f64>,
) -> Result<(Option<GammaStats>, Vec<Warning>)> {
    // |γ| of each channel, which does not depend on the ratio.
    let layers = net.scores(&Slimming::ratio(0.))?;
    let sizes: Vec<f64> = layers.iter().flat_map(|layer| &layer.scores).copied().collect();
    if sizes.is_empty() {
        return Ok((None, Vec::new()));
    }
    let (gap, warnings) = percent.and_then(|percent| gap(net, &layers, percent)).unzip();
    let max = sizes.iter().copied().fold(0., f64::max);
    let near_zero =
        sizes.iter().filter(|&&size| size < NEAR_ZERO * max).count() as f64 / sizes.len() as f64;
    let edges = edges();
    let counts = histogram(&edges, &sizes);
    Ok((Some(GammaStats { max, near_zero, edges, counts, gap }), warnings.unwrap_or_default()))
}

/// Whether γ show a gap at the watched ratio, by the results of [`health`]; `None` if no ratio is
/// watched, or there is no plan for it.
pub(super) fn has_gap(health: Option<&GammaStats>, warnings: &[Warning]) -> Option<bool> {
    health?
        .gap
        .as_ref()
        .map(|_| !warnings.iter().any(|warning| matches!(warning, Warning::NoGap { .. })))
}

/// The gap at the ratio `percent`. `None` if there is no plan: before the first step, for example,
/// all channels have equal scores. Training continues then.
fn gap(net: &impl Prunable, layers: &[LayerScores], percent: f64) -> Option<(Gap, Vec<Warning>)> {
    let plan = net.plan(&Slimming::ratio(percent)).ok()?;
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for LayerScores { path, scores, .. } in layers {
        let layer = plan.layer(path)?;
        let Some(scored) = layer.scored.as_ref().filter(|scored| scored.removable > 0) else {
            continue;
        };
        let mut keep = layer.axis(&scored.axis)?.keep.iter().peekable();
        for (channel, gamma) in scores.iter().enumerate() {
            match keep.next_if_eq(&channel) {
                Some(_) => staying.push(*gamma),
                None => going.push(*gamma),
            }
        }
    }
    let criterion::Gap { largest, median, .. } = criterion::Gap::between(going, staying)?;
    let warnings = plan.warnings().to_vec();
    let texts = warnings.iter().map(Warning::to_string).collect();
    Some((Gap { percent, largest, median, warnings: texts }, warnings))
}

/// The edges 0, 1e-8, 3e-8, 1e-7, … 10.
fn edges() -> Vec<f64> {
    let (first, last) = (*DECADES.start(), *DECADES.end());
    let decades = (first..last)
        .flat_map(|decade| [1, 3].map(|digit| format!("{digit}e{decade}")))
        .chain([format!("1e{last}")]);
    // Parse the decimal text, so that a file has `3e-8` and not the rounded result of a power.
    [0.].into_iter().chain(decades.filter_map(|text| text.parse().ok())).collect()
}

fn histogram(edges: &[f64], sizes: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; edges.len() - 1];
    for size in sizes {
        let bin = edges.partition_point(|edge| edge <= size).clamp(1, counts.len()) - 1;
        counts[bin] += 1;
    }
    counts
}
