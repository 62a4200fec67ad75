//! Whether the γ look like those of a network that was trained with sparsity.

use super::choose::Choice;
use super::scores::Scores;
use crate::plan::Warning;
use crate::slimming::criterion::{BatchNormScale, Criterion, Normalisation};
use crate::slimming::{Coupling, Slimming};

/// Where there is a gap, what goes is at most this share of the median that stays. The penalty
/// drives γ to 1e-5 and less where it works.
const GAP: f64 = 0.1;

/// γ start at 0.5 or 1. The largest is below this when all have decayed.
const DECAYED: f64 = 0.1;

/// Near zero is what is below this share of the largest.
const NEAR_ZERO: f64 = 1e-2;

pub(super) fn warnings(slimming: &Slimming, scores: &Scores, choice: &Choice) -> Vec<Warning> {
    // Scores that are |γ| themselves.
    let is_gamma = slimming.criterion.name() == BatchNormScale.name()
        && slimming.normalisation == Normalisation::None;
    if !is_gamma || slimming.coupling == Coupling::Sum {
        return Vec::new();
    }
    let may_go: Vec<_> = scores.entries().filter(|&class| choice.held[class].is_none()).collect();
    let score = |class: &usize| scores.by_class[*class].unwrap_or_default();
    let mut staying: Vec<_> =
        may_go.iter().filter(|&&class| choice.keep[class]).map(score).collect();
    let median = (!staying.is_empty()).then(|| {
        let middle = staying.len() / 2;
        *staying.select_nth_unstable_by(middle, f64::total_cmp).1
    });
    let (smallest, largest) = may_go
        .iter()
        .map(score)
        .fold((f64::INFINITY, 0_f64), |(low, high), score| (low.min(score), high.max(score)));

    let going = may_go.iter().filter(|&&class| !choice.keep[class]).map(score).reduce(f64::max);
    let no_gap = |going: f64| {
        let median = median.filter(|&median| going > GAP * median)?;
        Some(Warning::NoGap { largest: going, median })
    };
    let decayed =
        going.is_some() && largest > 0. && largest < DECAYED && smallest > NEAR_ZERO * largest;
    let decayed = decayed.then_some(Warning::WeightDecay { smallest, largest });
    going.and_then(no_gap).into_iter().chain(decayed).collect()
}
