//! Chooses which channel groups stay: within each ranking group in the order of their scores, as
//! far as the bounds allow.

use std::rc::Rc;

use super::budget::CostModel;
use super::greedy::{ConstraintIndex, GreedyState};
use super::ranking_groups::{self, RankingGroup};
use super::round::round;
use super::scores::Scores;
use crate::analysis::{Graph, Masking};
use crate::error::SelectionError;
use crate::graph::KeepReason;
use crate::slimming::{Rule, Slimming, Target};
use crate::{Error, Result};

/// The result of a selection.
pub(super) struct Choice {
    /// The threshold of the channels that compete over the whole network.
    pub(super) threshold: Option<f64>,
    /// Per channel group: whether it stays.
    pub(super) keep: Vec<bool>,
    /// Per channel group: whether the target alone would remove it.
    pub(super) unwanted: Vec<bool>,
    /// Per channel group: the bound that keeps it although the target would remove it, or that
    /// removes it although the target would keep it.
    pub(super) bound: Vec<Option<Rule>>,
    /// Per channel group: why it must stay.
    pub(super) held: Vec<Option<Rc<KeepReason>>>,
    /// Per channel group: whether any layer scores it.
    pub(super) scored: Vec<bool>,
    /// Per channel group: the threshold that it was compared with.
    pub(super) compared: Vec<Option<f64>>,
    /// Per layer: the axis that is ranked, and its threshold unless that is the threshold of the
    /// whole network.
    pub(super) ranked: Vec<Option<(usize, Option<f64>)>>,
}

/// # Errors
/// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune),
/// [`SelectionError::NoRanking`](crate::error::SelectionError::NoRanking),
/// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer),
/// [`SelectionError::OutOfReach`](crate::error::SelectionError::OutOfReach),
/// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for the cost of another
/// network.
pub(super) fn choose(graph: &Graph, scores: &Scores, slimming: &Slimming) -> Result<Choice> {
    let held = ranking_groups::held(graph, slimming)?;
    let costs = match &slimming.target {
        Target::Params(_) => Some(CostModel::parameters(graph)),
        Target::Macs { uses, .. } => Some(CostModel::macs(graph, uses)?),
        _ => None,
    };
    let constraints = ConstraintIndex::new(graph, &slimming.bounds, costs);
    let groups = ranking_groups::ranking_groups(&constraints, scores, &held, slimming)?;
    if groups.iter().all(|group| group.order.is_empty()) {
        return Err(Error::Selection(SelectionError::NothingToPrune {
            reason: why_nothing(slimming, scores, &held),
        }));
    }
    refuse_level(graph, scores, &groups, slimming)?;

    let start = constraints.start();
    let channel_groups = graph.channel_group.len();
    let mut selection = Selection {
        constraints: &constraints,
        scores,
        slimming,
        may_go: (0..channel_groups)
            .map(|channel_group| {
                held[channel_group].is_none() && scores.by_channel_group[channel_group].is_some()
            })
            .collect(),
        whole: start.cost,
        walk: start,
        unwanted: vec![false; channel_groups],
        bound: vec![None; channel_groups],
    };
    let mut ranked = vec![None; graph.layers.len()];
    let mut threshold = None;
    let mut compared = vec![None; channel_groups];
    for group in &groups {
        let cut = selection.cut(group)?;
        group.order.iter().for_each(|&channel_group| compared[channel_group] = cut);
        if group.is_global {
            threshold = cut;
        }
        for scored in group.layers.iter().map(|&layer| &scores.layers[layer]) {
            ranked[scored.layer] = Some((scored.axis, cut.filter(|_| !group.is_global)));
        }
    }
    selection.round();
    let Selection { walk, unwanted, bound, .. } = selection;
    let scored = scores.by_channel_group.iter().map(Option::is_some).collect();
    Ok(Choice { threshold, keep: walk.keep, unwanted, bound, held, scored, compared, ranked })
}

/// A selection in progress.
struct Selection<'a, 'g> {
    constraints: &'a ConstraintIndex<'g>,
    scores: &'a Scores,
    slimming: &'a Slimming,
    may_go: Vec<bool>,
    /// The cost of the whole network before anything is removed.
    whole: u64,
    walk: GreedyState,
    unwanted: Vec<bool>,
    bound: Vec<Option<Rule>>,
}

impl Selection<'_, '_> {
    /// Removes the channel groups of a ranking group that its target does not want. Returns the
    /// threshold.
    fn cut(&mut self, group: &RankingGroup) -> Result<Option<f64>> {
        let score = |channel_group: &usize| {
            self.scores.by_channel_group[*channel_group].unwrap_or_default()
        };
        let not_above = |threshold: f64| {
            group.order.partition_point(|channel_group| score(channel_group) <= threshold)
        };
        let (count, threshold) = match *group.target {
            _ if group.order.is_empty() => return Ok(None),
            Target::Ratio(0.) => return Ok(None),
            // The product is truncated as in the reference. For a ratio just below 1 it can round
            // up to N.
            Target::Ratio(ratio) => {
                let entries = group.ranked.len();
                let threshold = group.ranked[((entries as f64 * ratio) as usize).min(entries - 1)];
                (not_above(threshold), Some(threshold))
            }
            Target::Threshold(threshold) => (not_above(threshold), Some(threshold)),
            Target::TopK(k) => {
                self.fewest(group, |walk| self.channels_of(group, walk), k as u64)?
            }
            Target::Params(share) | Target::Macs { share, .. } => {
                self.fewest(group, |walk| walk.cost, (self.whole as f64 * share) as u64)?
            }
        };
        for &channel_group in &group.order[..count] {
            self.unwanted[channel_group] = true;
            self.bound[channel_group] = self.walk.remove(self.constraints, channel_group).err();
        }
        Ok(threshold)
    }

    /// Returns the least number of channel groups, taken in the ranking group's order, that must be
    /// unwanted to bring `measure` down to `most`, and the score of the last of them.
    fn fewest(
        &self,
        group: &RankingGroup,
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<(usize, Option<f64>)> {
        let count = match self.slimming.bounds.round_to {
            None => self.fewest_by_steps(group, &measure, most),
            Some(_) => self.fewest_rounded(group, &measure, most),
        };
        let count = count.map_err(|least| {
            Error::Selection(SelectionError::OutOfReach {
                target: group.target.to_string(),
                most,
                least,
            })
        })?;
        Ok((
            count,
            count.checked_sub(1).and_then(|last| self.scores.by_channel_group[group.order[last]]),
        ))
    }

    /// Steps through the channel groups and updates the measure after each.
    fn fewest_by_steps(
        &self,
        group: &RankingGroup,
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let mut walk = self.walk.clone();
        for (count, &channel_group) in group.order.iter().enumerate() {
            if measure(&walk) <= most {
                return Ok(count);
            }
            // If a bound keeps the channel group, the next channel group is tried.
            let _ = walk.remove(self.constraints, channel_group);
        }
        if measure(&walk) <= most { Ok(group.order.len()) } else { Err(measure(&walk)) }
    }

    /// Bisects, because the measure after rounding is known only once rounding is done.
    fn fewest_rounded(
        &self,
        group: &RankingGroup,
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let rounded = |count: usize| {
            let mut walk = self.walk.clone();
            for &channel_group in &group.order[..count] {
                let _ = walk.remove(self.constraints, channel_group);
            }
            self.rounded(&mut walk);
            measure(&walk)
        };
        let (mut too_few, mut enough) = (0, group.order.len());
        if rounded(0) <= most {
            return Ok(0);
        }
        let least = rounded(enough);
        if least > most {
            return Err(least);
        }
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            if rounded(middle) <= most { enough = middle } else { too_few = middle }
        }
        Ok(enough)
    }

    /// The number of scored channels left: in the whole network for the global ranking group,
    /// otherwise in the group's layer that has the most.
    fn channels_of(&self, group: &RankingGroup, walk: &GreedyState) -> u64 {
        let layers = group.layers.iter().map(|&layer| &self.scores.layers[layer]);
        let left =
            layers.map(|scored| walk.left[self.constraints.axis(scored.layer, scored.axis)] as u64);
        if group.is_global { left.sum() } else { left.max().unwrap_or(0) }
    }

    fn rounded(&self, walk: &mut GreedyState) -> Vec<usize> {
        self.slimming.bounds.round_to.map_or_else(Vec::new, |rounding| {
            round(self.constraints, walk, self.scores, &self.may_go, rounding)
        })
    }

    fn round(&mut self) {
        let mut walk = self.walk.clone();
        for channel_group in self.rounded(&mut walk) {
            self.bound[channel_group] = Some(Rule::RoundTo);
        }
        self.walk = walk;
    }
}

/// # Errors
/// [`SelectionError::NoRanking`](crate::error::SelectionError::NoRanking) when all channels of a
/// ranking group have the same score. A layer that is ranked by itself may score only zeros: then
/// all of its channels can go.
fn refuse_level(
    graph: &Graph,
    scores: &Scores,
    groups: &[RankingGroup],
    slimming: &Slimming,
) -> Result<()> {
    let asks = |group: &&RankingGroup| {
        !matches!(group.target, Target::Threshold(_) | Target::Ratio(0.) | Target::Params(1.))
    };
    let level = |group: &&RankingGroup| {
        group.is_level() && (group.is_global || group.ranked.first() > Some(&0.))
    };
    let Some(group) = groups.iter().filter(asks).find(level) else { return Ok(()) };
    let layer =
        (!group.is_global).then(|| graph.layers[scores.layers[group.layers[0]].layer].path.clone());
    Err(Error::Selection(SelectionError::NoRanking {
        score: group.ranked[0],
        criterion: slimming.criterion.name(),
        layer,
    }))
}

fn why_nothing(slimming: &Slimming, scores: &Scores, held: &[Option<Rc<KeepReason>>]) -> String {
    let reason = scores.entries().find_map(|channel_group| held[channel_group].as_deref());
    match (reason, slimming.zeroed()) {
        (Some(reason), _) => format!("every channel that is ranked must stay, the first of them for this reason: {reason}"),
        (None, Masking::BatchNorm) => "the data flow has no batch norm with a scale (γ) to rank channels by; put one behind a convolution, check that its field is not marked `#[prune(skip)]`, or rank by weights: `Slimming::ratio(0.5).criterion(criterion::L2)`".to_owned(),
        (None, Masking::Parameters) => {
            let requirement = slimming.criterion.requirement().map(|requirement| format!("; {requirement}")).unwrap_or_default();
            format!("the criterion `{}` scores no layer of the data flow{requirement}", slimming.criterion.name())
        }
    }
}
