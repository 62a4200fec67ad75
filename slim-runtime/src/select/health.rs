//! Whether the γ look like those of a network that was trained with a sparsity penalty, and whether
//! the plan is what was asked for.

use super::choose::Choice;
use super::scores::Scores;
use crate::plan::{Plan, Warning};
use crate::slimming::criterion::{BatchNormScale, Criterion, Fpgm, Gap, L1, L2, Normalisation};
use crate::slimming::{Coupling, Rule, Scope, Slimming, Target};

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

/// A plan overshoots if it removes a larger share than was asked for by more than this.
const OVERSHOOT: f64 = 0.05;

/// Warnings about what the plan leaves.
pub(super) fn of_plan(plan: &Plan) -> Vec<Warning> {
    overshoot(plan).into_iter().chain(floor(plan)).collect()
}

fn overshoot(plan: &Plan) -> Option<Warning> {
    let slimming = plan.slimming();
    let Target::Ratio(asked) = slimming.target else { return None };
    // Channels of score zero may all go.
    let is_zero = plan.threshold() == Some(0.);
    if is_zero || !slimming.layers.is_empty() || slimming.bounds.round_to.is_some() {
        return None;
    }
    // The paper's rule removes the channel at the threshold, too: one in each ranking.
    let rankings = match slimming.scope {
        Scope::Global => 1,
        Scope::Local => plan.layers().iter().filter(|layer| layer.scored.is_some()).count(),
        Scope::Isomorphic => plan.classes().len(),
    };
    let change = plan.channels();
    let by_rule = asked * plan.removable() as f64 + rankings as f64;
    let reached = plan.reached();
    let is_more = (change.before - change.after) as f64 > by_rule && reached > asked + OVERSHOOT;
    is_more.then_some(Warning::Overshoot { asked, reached })
}

fn floor(plan: &Plan) -> Option<Warning> {
    let slimming = plan.slimming();
    let is_norm = [L1.name(), L2.name(), Fpgm.name()].contains(&slimming.criterion.name());
    let compares = slimming.normalisation != Normalisation::None || slimming.scope != Scope::Global;
    if !is_norm || compares {
        return None;
    }
    let at_floor = plan.bounded().filter(|(_, bounded)| bounded.by.contains(&Rule::Needed));
    let layers: Vec<_> = at_floor.map(|(path, _)| path.to_owned()).collect();
    (!layers.is_empty()).then_some(Warning::Floor { layers })
}
