//! Ranking groups: which channels compete with each other, and for which target.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::iter::repeat_n;
use std::rc::Rc;

use super::greedy::ConstraintIndex;
use super::scores::Scores;
use crate::analysis::{self, Graph, UnionFind};
use crate::error::SelectionError;
use crate::graph::{AxisRole, KeepReason, LayerNode};
use crate::slimming::{Scope, Slimming, Target, check};
use crate::{Error, Result};

/// A ranking group: the least important of its channels go until its target is met.
pub(super) struct RankingGroup<'s> {
    pub(super) target: &'s Target,
    /// What it spans: the whole network, less the layers that have a target of their own; a class;
    /// or one set of layers whose channels stay or go together.
    pub(super) scope: Scope,
    /// The scored layers, as positions in [`Scores::layers`].
    pub(super) layers: Vec<usize>,
    /// The channel groups that may go, in ascending order of score. Of equal scores, the
    /// last in the data flow comes first.
    pub(super) order: Vec<usize>,
    /// The scores of all channels of these channel groups, ascending.
    pub(super) ranked: Vec<f64>,
}

/// Per channel group: why it must stay, because of the network itself or because of `keep`.
pub(super) fn held(graph: &Graph, slimming: &Slimming) -> Result<Vec<Option<Rc<KeepReason>>>> {
    let mut held = graph.held.clone();
    for pattern in &slimming.keep {
        let reason = Rc::new(KeepReason::Keep { by: format!("keep(\"{pattern}\")") });
        for layer in matching(graph, pattern)? {
            for channel_group in given(graph, layer) {
                held[channel_group].get_or_insert_with(|| Rc::clone(&reason));
            }
        }
    }
    Ok(held)
}

/// The layers that a pattern matches.
///
/// # Errors
/// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer) when it matches none.
pub(super) fn matching<'g>(graph: &'g Graph, pattern: &str) -> Result<Vec<&'g LayerNode>> {
    let parsed = check::parse(pattern)?;
    let layers: Vec<_> = graph.layers.iter().filter(|layer| parsed.matches(&layer.path)).collect();
    if layers.is_empty() {
        let known = graph.layers.iter().map(|layer| layer.path.clone()).collect();
        return Err(Error::Selection(SelectionError::NoLayer {
            pattern: pattern.to_owned(),
            known,
        }));
    }
    Ok(layers)
}

/// The channel groups on the axes that a layer makes or passes on.
pub(super) fn given<'g>(
    graph: &'g Graph,
    layer: &'g LayerNode,
) -> impl Iterator<Item = usize> + 'g {
    let axes = layer.axes.iter().filter(|axis| axis.role != AxisRole::Read);
    axes.flat_map(|axis| axis.ids.iter().map(|&id| graph.channel_group(id)))
}

/// # Errors
/// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer).
pub(super) fn ranking_groups<'s>(
    constraints: &ConstraintIndex,
    scores: &Scores,
    held: &[Option<Rc<KeepReason>>],
    slimming: &'s Slimming,
) -> Result<Vec<RankingGroup<'s>>> {
    let mut tally = Tally(vec![0; held.len()]);
    let mut group =
        |target, scope, layers| RankingGroup::new(target, scope, layers, scores, held, &mut tally);
    if slimming.layers.is_empty() && slimming.scope == Scope::Global {
        let all = (0..scores.layers.len()).collect();
        return Ok(vec![group(&slimming.target, Scope::Global, all)]);
    }
    // Per channel group: the index of its own target in `slimming.layers`.
    let mut own: HashMap<usize, usize> = HashMap::new();
    for (index, (pattern, _)) in slimming.layers.iter().enumerate() {
        for layer in matching(constraints.graph, pattern)? {
            own.extend(given(constraints.graph, layer).map(|channel_group| (channel_group, index)));
        }
    }
    let mut groups = Vec::new();
    let mut others = Vec::new();
    for layers in coupled_layers(scores, held) {
        let channel_groups =
            || layers.iter().flat_map(|&layer| &scores.layers[layer].channel_groups);
        let own = channel_groups()
            .filter(|&&channel_group| held[channel_group].is_none())
            .filter_map(|channel_group| own.get(channel_group))
            .max();
        match (own, slimming.scope) {
            (Some(&index), _) => {
                groups.push(group(&slimming.layers[index].1, Scope::Local, layers));
            }
            (None, Scope::Local) => groups.push(group(&slimming.target, Scope::Local, layers)),
            (None, Scope::Global | Scope::Isomorphic) => others.push(layers),
        }
    }
    let others = match slimming.scope {
        Scope::Local => others,
        Scope::Global => vec![others.into_iter().flatten().collect()],
        Scope::Isomorphic => classes(constraints.graph, scores, held, others),
    };
    for mut layers in others {
        layers.sort_unstable();
        groups.push(group(&slimming.target, slimming.scope, layers));
    }
    Ok(groups)
}

/// Joins the sets of coupled layers that are isomorphic, in the order of the data flow. A set whose
/// channels must all stay is a class by itself.
fn classes(
    graph: &Graph,
    scores: &Scores,
    held: &[Option<Rc<KeepReason>>],
    sets: Vec<Vec<usize>>,
) -> Vec<Vec<usize>> {
    let (mut part_of, mut may_shrink) = (vec![None; held.len()], vec![false; sets.len()]);
    for (part, layers) in sets.iter().enumerate() {
        let channel_groups = layers.iter().flat_map(|&layer| &scores.layers[layer].channel_groups);
        for &channel_group in channel_groups.filter(|&&channel_group| held[channel_group].is_none())
        {
            part_of[channel_group] = Some(part);
            may_shrink[part] = true;
        }
    }
    let class_of = analysis::classes(graph, &part_of, sets.len());
    let mut joined: Vec<Vec<usize>> = Vec::new();
    let mut first: HashMap<usize, usize> = HashMap::new();
    for (part, layers) in sets.into_iter().enumerate() {
        if !may_shrink[part] {
            joined.push(layers);
            continue;
        }
        let next = joined.len();
        match *first.entry(class_of[part]).or_insert(next) {
            at if at == next => joined.push(layers),
            at => joined[at].extend(layers),
        }
    }
    joined
}

/// Sets of scored layers whose channels stay or go together, in the order of the data flow.
fn coupled_layers(scores: &Scores, held: &[Option<Rc<KeepReason>>]) -> Vec<Vec<usize>> {
    let mut together = UnionFind::new(scores.layers.len());
    let mut first: Vec<Option<u32>> = vec![None; held.len()];
    for (layer, index) in scores.layers.iter().zip(0..) {
        for &channel_group in
            layer.channel_groups.iter().filter(|&&channel_group| held[channel_group].is_none())
        {
            together.union(*first[channel_group].get_or_insert(index), index);
        }
    }
    let mut groups = vec![Vec::new(); scores.layers.len()];
    together
        .into_roots()
        .into_iter()
        .enumerate()
        .for_each(|(layer, group)| groups[group as usize].push(layer));
    groups.retain(|group| !group.is_empty());
    groups
}

/// Per channel group: the number of its scored channels in the current ranking group. All zero
/// between calls, so that it is allocated only once for all groups.
struct Tally(Vec<u32>);

impl<'s> RankingGroup<'s> {
    fn new(
        target: &'s Target,
        scope: Scope,
        layers: Vec<usize>,
        scores: &Scores,
        held: &[Option<Rc<KeepReason>>],
        tally: &mut Tally,
    ) -> Self {
        let Tally(members) = tally;
        // Per channel group: its score as an order-preserving integer, and its position in the data
        // flow, reversed.
        let mut ascending = Vec::new();
        for &channel_group in layers.iter().flat_map(|&layer| &scores.layers[layer].channel_groups)
        {
            let Some(score) =
                scores.by_channel_group[channel_group].filter(|_| held[channel_group].is_none())
            else {
                continue;
            };
            members[channel_group] += 1;
            if members[channel_group] == 1 {
                ascending.push((in_total_order(score), Reverse(ascending.len()), channel_group));
            }
        }
        ascending.sort_unstable();
        let order: Vec<_> =
            ascending.into_iter().map(|(.., channel_group)| channel_group).collect();
        let of_channel_group = |&channel_group: &usize| {
            repeat_n(
                scores.by_channel_group[channel_group].unwrap_or_default(),
                members[channel_group] as usize,
            )
        };
        let ranked = order.iter().flat_map(of_channel_group).collect();
        order.iter().for_each(|&channel_group| members[channel_group] = 0);
        Self { target, scope, layers, order, ranked }
    }

    /// How many channel groups have a score that is at most this threshold: these come first.
    pub(super) fn not_above(&self, scores: &Scores, threshold: f64) -> usize {
        let score =
            |channel_group: usize| scores.by_channel_group[channel_group].unwrap_or_default();
        self.order.partition_point(|&channel_group| score(channel_group) <= threshold)
    }

    /// Whether its budget is of the whole network, and shared with other ranking groups.
    pub(super) fn shares_budget(&self) -> bool {
        self.scope != Scope::Global && self.target.is_budget()
    }

    /// Whether all of its channels have the same score.
    pub(super) fn is_level(&self) -> bool {
        self.order.len() > 1 && self.ranked.first() == self.ranked.last()
    }
}

/// Maps a score to an integer with the order of [`f64::total_cmp`]. Sorting many integers is
/// faster.
fn in_total_order(score: f64) -> i64 {
    let bits = score.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_order_of_the_scores() {
        let scores = [
            -f64::MAX,
            -1.5,
            -1.0,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            5e-324,
            1e-30,
            0.1,
            0.5,
            1.0,
            1e300,
            f64::MAX,
        ];
        for (a, b) in scores.iter().flat_map(|a| scores.iter().map(move |b| (a, b))) {
            assert_eq!(in_total_order(*a).cmp(&in_total_order(*b)), a.total_cmp(b), "{a} and {b}");
        }
    }
}
