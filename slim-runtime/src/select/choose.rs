//! Chooses which channel groups stay: within each ranking group in the order of their scores, as
//! far as the bounds allow.

use std::rc::Rc;

use super::budget::{CostModel, most};
use super::common_share::CommonShare;
use super::greedy::{ConstraintIndex, GreedyState};
use super::ranking_groups::{self, RankingGroup};
use super::round::round;
use super::scores::Scores;
use crate::analysis::{Graph, Masking};
use crate::error::SelectionError;
use crate::graph::KeepReason;
use crate::slimming::{Rule, Scope, Slimming, Target};
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
    /// Per channel group: the first layer of the class that it competes in.
    pub(super) classes: Vec<Option<usize>>,
    /// Per layer: how it is ranked.
    pub(super) ranked: Vec<Option<RankedLayer>>,
}

/// How the channels of a layer are ranked.
#[derive(Clone, Copy)]
pub(super) struct RankedLayer {
    pub(super) axis: usize,
    /// The threshold, unless it is that of the whole network.
    pub(super) threshold: Option<f64>,
    /// The first layer of the class that the layer competes in, where classes do.
    pub(super) class: Option<usize>,
}

/// # Errors
/// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune),
/// [`SelectionError::NoRanking`](crate::error::SelectionError::NoRanking),
/// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer),
/// [`SelectionError::OutOfReach`](crate::error::SelectionError::OutOfReach),
/// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for the cost or the
/// latencies of another network.
pub(super) fn choose(graph: &Graph, scores: &Scores, slimming: &Slimming) -> Result<Choice> {
    let held = ranking_groups::held(graph, slimming)?;
    let costs = CostModel::of(graph, &slimming.target)?;
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
    let (mut compared, mut classes) = (vec![None; channel_groups], vec![None; channel_groups]);
    for (group, cut) in groups.iter().zip(selection.cut_all(&groups)?) {
        let is_global = group.scope == Scope::Global;
        let class = group.layers.first().filter(|_| group.scope == Scope::Isomorphic);
        let class = class.map(|&first| scores.layers[first].layer);
        for &channel_group in &group.order {
            (compared[channel_group], classes[channel_group]) = (cut, class);
        }
        if is_global {
            threshold = cut;
        }
        for scored in group.layers.iter().map(|&layer| &scores.layers[layer]) {
            let (axis, threshold) = (scored.axis, cut.filter(|_| !is_global));
            ranked[scored.layer] = Some(RankedLayer { axis, threshold, class });
        }
    }
    selection.round();
    let Selection { walk, unwanted, bound, .. } = selection;
    let scored = scores.by_channel_group.iter().map(Option::is_some).collect();
    let keep = walk.keep;
    Ok(Choice { threshold, keep, unwanted, bound, held, scored, compared, classes, ranked })
}

/// The rule of Network Slimming: the score that a channel has to exceed to stay, of some scores in
/// ascending order, at least one. The product is truncated as in the reference. For a ratio just
/// below 1 it can round up to the number of scores.
pub(super) fn threshold_of(ranked: &[f64], ratio: f64) -> f64 {
    ranked[((ranked.len() as f64 * ratio) as usize).min(ranked.len() - 1)]
}

/// A target, with the unit of what it measures.
pub(super) fn said(target: &Target) -> String {
    match target {
        Target::Latency { .. } => format!("{target} (in ns)"),
        _ => target.to_string(),
    }
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
    /// Removes the channel groups that the targets of the ranking groups do not want. Returns the
    /// threshold of each. Groups that share a budget come last, since the others decide what it has
    /// to pay for.
    fn cut_all(&mut self, groups: &[RankingGroup]) -> Result<Vec<Option<f64>>> {
        let mut cuts = vec![None; groups.len()];
        let (sharing, others): (Vec<usize>, Vec<usize>) =
            (0..groups.len()).partition(|&index| groups[index].shares_budget());
        for index in others {
            cuts[index] = self.cut(&groups[index])?;
        }
        let common = CommonShare::new(groups, self.scores, &sharing);
        let Some(&first) = sharing.first().filter(|_| !common.order.is_empty()) else {
            return self.ensure_budget().map(|()| cuts);
        };
        let target = groups[first].target;
        let budget = self.budget(target);
        let count = self.fewest(target, (&common.order, &common.ends), |walk| walk.cost, budget)?;
        self.remove(&common.order[..count]);
        for index in sharing {
            let is_unwanted = |channel_group: &&usize| self.unwanted[**channel_group];
            let last = groups[index].order.iter().rfind(is_unwanted);
            cuts[index] = last.and_then(|&last| self.scores.by_channel_group[last]);
        }
        Ok(cuts)
    }

    /// Checks that the budget of the network is met, in which no channel group may be left to pay
    /// for it, as where every layer has a target of its own.
    fn ensure_budget(&self) -> Result<()> {
        let target = &self.slimming.target;
        let mut walk = self.walk.clone();
        self.rounded(&mut walk);
        let (most, least) = (self.budget(target), walk.cost);
        if target.budget().is_none() || least <= most {
            return Ok(());
        }
        Err(Error::Selection(SelectionError::OutOfReach { target: said(target), most, least }))
    }

    /// Removes the channel groups of a ranking group that its target does not want. Returns the
    /// threshold.
    fn cut(&mut self, group: &RankingGroup) -> Result<Option<f64>> {
        let fewest = |measure: &dyn Fn(&GreedyState) -> u64, most: u64| {
            let ends: Vec<usize> = (0..=group.order.len()).collect();
            let count = self.fewest(group.target, (&group.order, &ends), measure, most)?;
            let last = count.checked_sub(1).map(|last| group.order[last]);
            Ok::<_, Error>((count, last.and_then(|last| self.scores.by_channel_group[last])))
        };
        let (count, threshold) = match *group.target {
            _ if group.order.is_empty() => return Ok(None),
            Target::Ratio(0.) => return Ok(None),
            Target::Ratio(ratio) => {
                let threshold = threshold_of(&group.ranked, ratio);
                (group.not_above(self.scores, threshold), Some(threshold))
            }
            Target::Threshold(threshold) => {
                (group.not_above(self.scores, threshold), Some(threshold))
            }
            Target::TopK(k) => fewest(&|walk| self.channels_of(group, walk), k as u64)?,
            Target::Params(_) | Target::Macs { .. } | Target::Latency { .. } => {
                fewest(&|walk| walk.cost, self.budget(group.target))?
            }
        };
        self.remove(&group.order[..count]);
        Ok(threshold)
    }

    /// The largest cost within a budget.
    fn budget(&self, target: &Target) -> u64 {
        target.budget().map_or(u64::MAX, |share| most(self.whole, share))
    }

    fn remove(&mut self, unwanted: &[usize]) {
        for &channel_group in unwanted {
            self.unwanted[channel_group] = true;
            self.bound[channel_group] = self.walk.remove(self.constraints, channel_group).err();
        }
    }

    /// Returns the least number of channel groups, taken in this order, that must be unwanted to
    /// bring `measure` down to `most`. It is one of `ends`, which ascend from 0.
    fn fewest(
        &self,
        target: &Target,
        (order, ends): (&[usize], &[usize]),
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize> {
        let count = match self.slimming.bounds.round_to {
            None => self.fewest_by_steps(order, ends, &measure, most),
            Some(_) => self.fewest_rounded(order, ends, &measure, most),
        };
        count.map_err(|least| {
            Error::Selection(SelectionError::OutOfReach { target: said(target), most, least })
        })
    }

    /// Steps through the channel groups and updates the measure after each.
    fn fewest_by_steps(
        &self,
        order: &[usize],
        ends: &[usize],
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let (mut walk, mut done) = (self.walk.clone(), 0);
        for &end in ends {
            for &channel_group in &order[done..end] {
                // If a bound keeps the channel group, the next channel group is tried.
                let _ = walk.remove(self.constraints, channel_group);
            }
            done = end;
            if measure(&walk) <= most {
                return Ok(end);
            }
        }
        Err(measure(&walk))
    }

    /// Bisects, because the measure after rounding is known only once rounding is done.
    fn fewest_rounded(
        &self,
        order: &[usize],
        ends: &[usize],
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let rounded = |end: usize| {
            let mut walk = self.walk.clone();
            for &channel_group in &order[..ends[end]] {
                let _ = walk.remove(self.constraints, channel_group);
            }
            self.rounded(&mut walk);
            measure(&walk)
        };
        let (mut too_few, mut enough) = (0, ends.len() - 1);
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
        Ok(ends[enough])
    }

    /// The number of scored channels left: in the group's layer that has the most, if its channels
    /// stay or go together; otherwise in all of its layers.
    fn channels_of(&self, group: &RankingGroup, walk: &GreedyState) -> u64 {
        let layers = group.layers.iter().map(|&layer| &self.scores.layers[layer]);
        let left =
            layers.map(|scored| walk.left[self.constraints.axis(scored.layer, scored.axis)] as u64);
        if group.scope == Scope::Local { left.max().unwrap_or(0) } else { left.sum() }
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
pub(super) fn refuse_level(
    graph: &Graph,
    scores: &Scores,
    groups: &[RankingGroup],
    slimming: &Slimming,
) -> Result<()> {
    let asks = |group: &&RankingGroup| {
        !matches!(group.target, Target::Threshold(_) | Target::Ratio(0.) | Target::Params(1.))
    };
    let level = |group: &&RankingGroup| {
        group.is_level() && (group.scope == Scope::Global || group.ranked.first() > Some(&0.))
    };
    let Some(group) = groups.iter().filter(asks).find(level) else { return Ok(()) };
    let layer = (group.scope != Scope::Global)
        .then(|| graph.layers[scores.layers[group.layers[0]].layer].path.clone());
    Err(Error::Selection(SelectionError::NoRanking {
        score: group.ranked[0],
        criterion: slimming.criterion.name(),
        layer,
    }))
}

pub(super) fn why_nothing(
    slimming: &Slimming,
    scores: &Scores,
    held: &[Option<Rc<KeepReason>>],
) -> String {
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
