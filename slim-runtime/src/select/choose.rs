//! Which classes of channels stay: group by group, in the order of their scores, as far as the
//! bounds allow.

use std::rc::Rc;

use super::budget::CostModel;
use super::greedy::{ConstraintIndex, GreedyState};
use super::ranking_groups::{self, RankingGroup};
use super::round::round;
use super::scores::Scores;
use crate::analysis::{Graph, Masking};
use crate::graph::KeepReason;
use crate::slimming::{Rule, Slimming, Target};
use crate::{Error, Result};

/// What was chosen.
pub(super) struct Choice {
    /// That of the channels that compete over the whole network.
    pub(super) threshold: Option<f64>,
    /// By class: whether it stays.
    pub(super) keep: Vec<bool>,
    /// By class: whether the target alone would have it go.
    pub(super) unwanted: Vec<bool>,
    /// By class: the bound that is why it stays although it is unwanted, or goes although it is
    /// not.
    pub(super) bound: Vec<Option<Rule>>,
    /// By class: why it must stay.
    pub(super) held: Vec<Option<Rc<KeepReason>>>,
    /// By class: whether something ranks it.
    pub(super) scored: Vec<bool>,
    /// By class: the threshold that it was compared with.
    pub(super) compared: Vec<Option<f64>>,
    /// By layer: the axis that is ranked, and the threshold where it is not that of the whole
    /// network.
    pub(super) ranked: Vec<Option<(usize, Option<f64>)>>,
}

/// # Errors
/// [`Error::NothingToPrune`], [`Error::NoRanking`], [`Error::NoLayer`], [`Error::OutOfReach`],
/// [`Error::Slimming`] for the cost of another network.
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
        return Err(Error::NothingToPrune { reason: why_nothing(slimming, scores, &held) });
    }
    refuse_level(graph, scores, &groups, slimming)?;

    let start = constraints.start();
    let classes = graph.class.len();
    let mut selection = Selection {
        constraints: &constraints,
        scores,
        slimming,
        may_go: (0..classes)
            .map(|class| held[class].is_none() && scores.by_class[class].is_some())
            .collect(),
        whole: start.cost,
        walk: start,
        unwanted: vec![false; classes],
        bound: vec![None; classes],
    };
    let mut ranked = vec![None; graph.layers.len()];
    let mut threshold = None;
    let mut compared = vec![None; classes];
    for group in &groups {
        let cut = selection.cut(group)?;
        group.order.iter().for_each(|&class| compared[class] = cut);
        if group.is_global {
            threshold = cut;
        }
        for scored in group.layers.iter().map(|&layer| &scores.layers[layer]) {
            ranked[scored.layer] = Some((scored.axis, cut.filter(|_| !group.is_global)));
        }
    }
    selection.round();
    let Selection { walk, unwanted, bound, .. } = selection;
    let scored = scores.by_class.iter().map(Option::is_some).collect();
    Ok(Choice { threshold, keep: walk.keep, unwanted, bound, held, scored, compared, ranked })
}

/// A selection under way.
struct Selection<'a, 'g> {
    constraints: &'a ConstraintIndex<'g>,
    scores: &'a Scores,
    slimming: &'a Slimming,
    may_go: Vec<bool>,
    /// What the network costs before.
    whole: u64,
    walk: GreedyState,
    unwanted: Vec<bool>,
    bound: Vec<Option<Rule>>,
}

impl Selection<'_, '_> {
    /// Removes the channels of a group that its target does not want. Returns its threshold.
    fn cut(&mut self, group: &RankingGroup) -> Result<Option<f64>> {
        let score = |class: &usize| self.scores.by_class[*class].unwrap_or_default();
        let not_above =
            |threshold: f64| group.order.partition_point(|class| score(class) <= threshold);
        let (count, threshold) = match *group.target {
            _ if group.order.is_empty() => return Ok(None),
            Target::Ratio(0.) => return Ok(None),
            // The product is truncated as in the reference; just below 1 it can round up to N.
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
        for &class in &group.order[..count] {
            self.unwanted[class] = true;
            self.bound[class] = self.walk.remove(self.constraints, class).err();
        }
        Ok(threshold)
    }

    /// How many classes have to be unwanted, in their order, for a measure of what is left to come
    /// down to `most`; and the score of the last.
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
        let count = count.map_err(|least| Error::OutOfReach {
            target: group.target.to_string(),
            most,
            least,
        })?;
        Ok((count, count.checked_sub(1).and_then(|last| self.scores.by_class[group.order[last]])))
    }

    /// Step by step, with what is left updated by each.
    fn fewest_by_steps(
        &self,
        group: &RankingGroup,
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let mut walk = self.walk.clone();
        for (count, &class) in group.order.iter().enumerate() {
            if measure(&walk) <= most {
                return Ok(count);
            }
            // A class that a bound keeps is passed over.
            let _ = walk.remove(self.constraints, class);
        }
        if measure(&walk) <= most { Ok(group.order.len()) } else { Err(measure(&walk)) }
    }

    /// By bisection, since what rounding leaves is known only when it is done.
    fn fewest_rounded(
        &self,
        group: &RankingGroup,
        measure: impl Fn(&GreedyState) -> u64,
        most: u64,
    ) -> Result<usize, u64> {
        let rounded = |count: usize| {
            let mut walk = self.walk.clone();
            for &class in &group.order[..count] {
                let _ = walk.remove(self.constraints, class);
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

    /// How many scored channels are left: of the whole network, or else of the layer of the group
    /// that has the most.
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
        for class in self.rounded(&mut walk) {
            self.bound[class] = Some(Rule::RoundTo);
        }
        self.walk = walk;
    }
}

/// # Errors
/// [`Error::NoRanking`] when the channels of a group cannot be told apart. A layer by itself may
/// have nothing but zeros, which say that all of it can go.
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
    Err(Error::NoRanking { score: group.ranked[0], criterion: slimming.criterion.name(), layer })
}

fn why_nothing(slimming: &Slimming, scores: &Scores, held: &[Option<Rc<KeepReason>>]) -> String {
    let hold = scores.entries().find_map(|class| held[class].as_deref());
    match (hold, slimming.zeroed()) {
        (Some(hold), _) => format!("every channel that is ranked must stay, the first of them for this reason: {hold}"),
        (None, Masking::BatchNorm) => "the data flow has no batch norm with a scale (γ) to rank channels by; put one behind a convolution, check that its field is not marked `#[prune(skip)]`, or rank by weights: `Slimming::ratio(0.5).criterion(criterion::L2)`".to_owned(),
        (None, Masking::Parameters) => {
            let requirement = slimming.criterion.requirement().map(|requirement| format!("; {requirement}")).unwrap_or_default();
            format!("the criterion `{}` scores no layer of the data flow{requirement}", slimming.criterion.name())
        }
    }
}
