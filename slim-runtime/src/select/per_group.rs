//! Ratios for each group of coupled layers: which groups there are, and what the network costs
//! under given ratios, without a plan for each.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::budget::{CostModel, most};
use super::choose;
use super::greedy::{ConstraintIndex, GreedyState};
use super::ranking_groups::{self, RankingGroup};
use super::round::round;
use super::scores::Scores;
use crate::analysis::Graph;
use crate::error::SelectionError;
use crate::graph::KeepReason;
use crate::numeric::fnv1a;
use crate::slimming::{CoupledLayers, Scope, Slimming, Target};
use crate::{Error, Result};

/// The groups of coupled layers of a network, as a slimming ranks their channels.
pub(crate) struct PerGroup<'g> {
    graph: &'g Graph,
    slimming: Slimming,
    scores: Scores,
    constraints: ConstraintIndex<'g>,
    may_go: Vec<bool>,
    groups: Vec<CoupledLayers>,
    /// By group: its channel groups in ascending order of score, their scores as in
    /// [`RankingGroup`], and its layers.
    ranked: Vec<Ranked>,
}

struct Ranked {
    order: Vec<usize>,
    ranked: Vec<f64>,
    layers: Vec<usize>,
}

impl Ranked {
    /// The score that a channel has to exceed to stay; `None` if all stay.
    fn threshold(&self, group: &CoupledLayers, removed: usize) -> Option<f64> {
        (removed > 0).then(|| choose::threshold_of(&self.ranked, group.ratio(removed)))
    }
}

/// Hashes by which a network and its scores are recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Of the layers: paths, kinds, widths, shapes.
    pub(crate) network: String,
    /// Of the scores.
    pub(crate) scores: String,
}

impl<'g> PerGroup<'g> {
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for layers with targets
    /// of their own and for layers that make channels of each other's groups, [`SelectionError::NoRanking`](crate::error::SelectionError::NoRanking) when
    /// all channels of a group have the same score, and the other errors of planning.
    pub(crate) fn new(graph: &'g Graph, slimming: &Slimming) -> Result<Self> {
        slimming.check()?;
        if let Some((pattern, _)) = slimming.layers.first() {
            let reason = format!(
                "layers that match `{pattern}` have a target of their own, and each layer is to get one here; leave `layers` out, or `keep` the layers that should not change"
            );
            return Err(Error::Selection(SelectionError::Slimming { reason }));
        }
        let scores = Scores::read(graph, slimming)?;
        let held = ranking_groups::held(graph, slimming)?;
        let costs = CostModel::of(graph, &slimming.target)?;
        let constraints = ConstraintIndex::new(graph, &slimming.bounds, costs);
        // With a target that asks for channels, so that level scores are refused.
        let local =
            Slimming { target: Target::Ratio(0.5), scope: Scope::Local, ..slimming.clone() };
        let mut found = ranking_groups::ranking_groups(&constraints, &scores, &held, &local)?;
        choose::refuse_level(graph, &scores, &found, &local)?;
        found.retain(|group| !group.order.is_empty());
        if found.is_empty() {
            let reason = choose::why_nothing(slimming, &scores, &held);
            return Err(Error::Selection(SelectionError::NothingToPrune { reason }));
        }
        let (groups, ranked) = addressed(graph, &scores, &held, found)?;
        let may_go = held
            .iter()
            .zip(&scores.by_channel_group)
            .map(|(held, score)| held.is_none() && score.is_some())
            .collect();
        Ok(Self {
            graph,
            slimming: slimming.recorded(),
            scores,
            constraints,
            may_go,
            groups,
            ranked,
        })
    }

    /// The groups. A pattern that matches channels of another group comes before the pattern of
    /// that group, which counts, since it is later.
    pub(crate) fn groups(&self) -> &[CoupledLayers] {
        &self.groups
    }

    /// The slimming, as a plan records it.
    pub(crate) fn slimming(&self) -> &Slimming {
        &self.slimming
    }

    /// The cost when these numbers of channels of each group are asked to go.
    pub(crate) fn cost(&self, removed: &[usize]) -> u64 {
        self.left(removed).cost
    }

    /// The same removals, with each number raised to that of the channels that really go: a channel
    /// that several layers count goes from all of them.
    pub(crate) fn canonical(&self, removed: &[usize]) -> Vec<usize> {
        let groups = self.groups.iter().zip(&self.ranked).zip(removed);
        let count = |((group, ranked), &removed): ((&CoupledLayers, &Ranked), &usize)| {
            let Some(threshold) = ranked.threshold(group, removed) else { return 0 };
            ranked.ranked.partition_point(|&score| score <= threshold)
        };
        groups.map(count).collect()
    }

    fn left(&self, removed: &[usize]) -> GreedyState {
        let mut walk = self.constraints.start();
        for ((group, ranked), &removed) in self.groups.iter().zip(&self.ranked).zip(removed) {
            let Some(threshold) = ranked.threshold(group, removed) else { continue };
            let score = |group: &usize| self.scores.by_channel_group[*group].unwrap_or_default();
            for &channel_group in ranked.order.iter().take_while(|group| score(group) <= threshold)
            {
                // If a bound keeps the channel group, the next channel group is tried.
                let _ = walk.remove(&self.constraints, channel_group);
            }
        }
        if let Some(rounding) = self.slimming.bounds.round_to {
            round(&self.constraints, &mut walk, &self.scores, &self.may_go, rounding);
        }
        walk
    }

    /// The largest cost that the slimming's target allows.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when the target is no
    /// budget, [`SelectionError::OutOfReach`](crate::error::SelectionError::OutOfReach).
    pub(crate) fn most(&self) -> Result<u64> {
        let Some(share) = self.slimming.target.budget() else {
            let reason = format!(
                "{} is no budget, and a search needs one; start with `Slimming::params` or `Slimming::macs`",
                self.slimming.target
            );
            return Err(Error::Selection(SelectionError::Slimming { reason }));
        };
        let most = most(self.constraints.start().cost, share);
        let all: Vec<_> = self.groups.iter().map(|group| group.removable).collect();
        match self.cost(&all) {
            least if least > most => Err(Error::Selection(SelectionError::OutOfReach {
                target: choose::said(&self.slimming.target),
                most,
                least,
            })),
            _ => Ok(most),
        }
    }

    /// How many channels of each group the slimming itself removes.
    ///
    /// # Errors
    /// Those of planning.
    pub(crate) fn global(&self) -> Result<Vec<usize>> {
        let choice = choose::choose(self.graph, &self.scores, &self.slimming)?;
        let gone = |&layer: &usize| {
            let channel_groups = self.scores.layers[layer].channel_groups.iter();
            channel_groups.filter(|&&channel_group| !choice.keep[channel_group]).count()
        };
        Ok(self.ranked.iter().map(|ranked| ranked.layers.iter().map(gone).sum()).collect())
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut network = 0;
        for layer in &self.graph.layers {
            let axes: Vec<_> =
                layer.axes.iter().map(|axis| (axis.name.to_string(), axis.ids.len())).collect();
            let tensors: Vec<_> =
                layer.tensors.iter().map(|tensor| (tensor.name, tensor.tensor.size())).collect();
            let text = format!("{}: {} {axes:?} {tensors:?}\n", layer.path, layer.kind);
            network = fnv1a(network, text.as_bytes());
        }
        let mut scores = 0;
        for layer in &self.scores.layers {
            scores = layer
                .scores
                .iter()
                .fold(scores, |hash, score| fnv1a(hash, &score.to_bits().to_le_bytes()));
        }
        Fingerprint { network: format!("{network:016x}"), scores: format!("{scores:016x}") }
    }
}

/// The groups with patterns: for each the path of the layer that touches the fewest groups, which
/// is one, unless a layer makes several lists of channels.
///
/// # Errors
/// Those of [`ordered`].
fn addressed(
    graph: &Graph,
    scores: &Scores,
    held: &[Option<Rc<KeepReason>>],
    found: Vec<RankingGroup>,
) -> Result<(Vec<CoupledLayers>, Vec<Ranked>)> {
    let mut group_of = vec![None; held.len()];
    for (index, group) in found.iter().enumerate() {
        group.order.iter().for_each(|&channel_group| group_of[channel_group] = Some(index));
    }
    let mut all = Vec::new();
    for (index, RankingGroup { layers, order, ranked, .. }) in found.into_iter().enumerate() {
        let paths: Vec<_> = layers
            .iter()
            .map(|&layer| graph.layers[scores.layers[layer].layer].path.clone())
            .collect();
        let mut best: Option<(BTreeSet<usize>, String)> = None;
        for path in &paths {
            let pattern = glob::Pattern::escape(path);
            let mut touched = BTreeSet::new();
            for layer in ranking_groups::matching(graph, &pattern)? {
                touched.extend(
                    ranking_groups::given(graph, layer).filter_map(|group| group_of[group]),
                );
            }
            let is_better = best.as_ref().is_none_or(|(fewest, _)| touched.len() < fewest.len());
            if is_better && touched.contains(&index) {
                best = Some((touched, pattern));
            }
        }
        let (touched, pattern) = best.unwrap_or_default();
        let group = CoupledLayers { layers: paths, removable: ranked.len(), pattern };
        all.push((touched, group, Ranked { order, ranked, layers }));
    }
    Ok(ordered(all)?.into_iter().unzip())
}

/// Puts each group behind the groups whose patterns touch it, so that its own pattern, which is
/// later, counts. Where that leaves a choice, patterns that touch many groups come first.
///
/// # Errors
/// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when patterns touch each
/// other's groups: no order gives each group a ratio of its own.
fn ordered(
    all: Vec<(BTreeSet<usize>, CoupledLayers, Ranked)>,
) -> Result<Vec<(CoupledLayers, Ranked)>> {
    let touched: Vec<_> = all.iter().map(|(touched, ..)| touched.clone()).collect();
    let others = |group: usize| touched[group].iter().copied().filter(move |&it| it != group);
    // Per group: the number of groups in front of which it may not stand.
    let mut waits = vec![0_usize; all.len()];
    (0..all.len()).flat_map(others).for_each(|other| waits[other] += 1);
    let rank = |group: usize| (Reverse(touched[group].len()), group);
    let mut free: BTreeSet<_> = (0..all.len()).filter(|&it| waits[it] == 0).map(rank).collect();
    let mut left: Vec<_> =
        all.into_iter().map(|(_, group, ranked)| Some((group, ranked))).collect();
    let mut order = Vec::new();
    while let Some((_, next)) = free.pop_first() {
        order.extend(left[next].take());
        for other in others(next) {
            waits[other] -= 1;
            if waits[other] == 0 {
                free.insert(rank(other));
            }
        }
    }
    // Groups that only wait for others do not touch one that is left.
    let mut mutual: Vec<usize> = (0..left.len()).filter(|&group| left[group].is_some()).collect();
    while let Some(at) =
        mutual.iter().position(|&group| !others(group).any(|other| mutual.contains(&other)))
    {
        mutual.remove(at);
    }
    let names = mutual.into_iter().filter_map(|group| left[group].as_ref());
    let names: Vec<_> = names.map(|(group, _)| format!("`{}`", group.name())).collect();
    if names.is_empty() {
        return Ok(order);
    }
    let reason = format!(
        "{} make channels of each other's groups, so that these cannot have a ratio each; `keep` them, or make each list of channels in a layer of its own",
        names.join(" and ")
    );
    Err(Error::Selection(SelectionError::Slimming { reason }))
}
