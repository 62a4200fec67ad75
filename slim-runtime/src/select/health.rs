//! Whether the γ look like those of a network that was trained with a sparsity penalty.

use super::choose::Choice;
use super::scores::Scores;
use crate::plan::Warning;
use crate::slimming::criterion::{BatchNormScale, Criterion, Gap, Normalisation};
use crate::slimming::{Coupling, Slimming};

/// Batch norms start with γ at 0.5 or 1. If the largest |γ| is below this, all of them have
/// decayed.
const DECAYED: f64 = 0.1;

/// The sparsity penalty drives some |γ| below this share of the largest; weight decay shrinks all
/// alike.
const SMALLEST: f64 = 1e-2;

pub(super) fn warnings(slimming: &Slimming, scores: &Scores, choice: &Choice) -> Vec<Warning> {
    // The checks below hold only if the scores are |γ|.
    let is_gamma = slimming.criterion.name() == BatchNormScale.name()
        && slimming.normalisation == Normalisation::None;
    if !is_gamma || slimming.coupling == Coupling::Sum {
        return Vec::new();
    }
    let may_go: Vec<_> =
        scores.entries().filter(|&channel_group| choice.held[channel_group].is_none()).collect();
    let score = |channel_group: &usize| scores.by_channel_group[*channel_group].unwrap_or_default();
    let of = |keep: bool| {
        may_go.iter().filter(move |&&channel_group| choice.keep[channel_group] == keep).map(score)
    };
    let gap = Gap::between(of(false), of(true));
    let (smallest, largest) = may_go
        .iter()
        .map(score)
        .fold((f64::INFINITY, 0_f64), |(low, high), score| (low.min(score), high.max(score)));

    let no_gap = gap.filter(|gap| !gap.is_wide());
    let no_gap = no_gap.map(|Gap { largest, median, .. }| Warning::NoGap { largest, median });
    let some_go = of(false).next().is_some();
    let decayed = some_go && largest > 0. && largest < DECAYED && smallest > SMALLEST * largest;
    let decayed = decayed.then_some(Warning::WeightDecay { smallest, largest });
    no_gap.into_iter().chain(decayed).collect()
}
