//! Whether γ is on its way to two heaps, one of which can go.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use slim_runtime::criterion::LayerScores;
use slim_runtime::{Prunable, Slimming, Warning};

/// Near zero is what is below this share of the largest |γ|.
const NEAR_ZERO: f64 = 1e-3;
/// The histogram's edges above 0, two to a decade.
const DECADES: std::ops::RangeInclusive<i32> = -8..=1;

/// How |γ| is distributed over the channels of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GammaStats {
    /// The largest |γ|.
    pub max: f64,
    /// The share of channels whose |γ| is below a thousandth of the largest, in [0, 1].
    pub near_zero: f64,
    /// Bounds of the histogram's bins, from 0 and then on a logarithmic scale, the same for every
    /// network.
    pub edges: Vec<f64>,
    /// How many |γ| are in each bin, from its lower bound up to its upper one, exclusive; the last
    /// has those above, too.
    pub counts: Vec<usize>,
    /// What pruning would part, if a ratio is watched and there is anything to rank.
    pub gap: Option<Gap>,
}

/// The channels that pruning at some ratio would remove, beside those that would stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Share of channels to be removed, in [0, 1).
    pub percent: f64,
    /// The largest |γ| that goes.
    pub largest: f64,
    /// The median |γ| that stays, of the layers that may lose channels.
    pub median: f64,
    /// What speaks against it.
    pub warnings: Vec<String>,
}

/// The γ of a network, and the warnings of a plan that removes the share `percent`. `None` where it
/// has no γ.
///
/// # Errors
/// libtorch's, and those of [`Prunable::trace`].
pub(super) fn health(
    net: &impl Prunable,
    percent: Option<f64>,
) -> Result<(Option<GammaStats>, Vec<Warning>)> {
    // |γ| of each channel, whatever goes.
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

/// Whether γ show the gap that is watched for, by the two of [`health`]; `None` where nothing is
/// watched or can be.
pub(super) fn has_gap(health: Option<&GammaStats>, warnings: &[Warning]) -> Option<bool> {
    health?
        .gap
        .as_ref()
        .map(|_| !warnings.iter().any(|warning| matches!(warning, Warning::NoGap { .. })))
}

/// `None` where there is no plan: nothing tells the channels apart before the first step, say. That
/// is no reason to stop training.
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
    let middle = staying.len() / 2;
    let median = if staying.is_empty() {
        return None;
    } else {
        *staying.select_nth_unstable_by(middle, f64::total_cmp).1
    };
    let warnings = plan.warnings().to_vec();
    let texts = warnings.iter().map(Warning::to_string).collect();
    Some((
        Gap { percent, largest: going.into_iter().reduce(f64::max)?, median, warnings: texts },
        warnings,
    ))
}

/// 0, 1e-8, 3e-8, 1e-7, … 10.
fn edges() -> Vec<f64> {
    let (first, last) = (*DECADES.start(), *DECADES.end());
    let decades = (first..last)
        .flat_map(|decade| [1, 3].map(|digit| format!("{digit}e{decade}")))
        .chain([format!("1e{last}")]);
    // Read, so that a file has `3e-8` and not what a power of ten comes to.
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
