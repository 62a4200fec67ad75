//! Rounds the widths of layers to multiples.

use super::greedy::{ConstraintIndex, GreedyState};
use super::scores::Scores;
use crate::slimming::{Direction, Rounding};

/// Rounds the width of every layer that has lost channels to a multiple. Returns the channel groups
/// that this removed or restored.
pub(super) fn round(
    constraints: &ConstraintIndex,
    walk: &mut GreedyState,
    scores: &Scores,
    may_go: &[bool],
    rounding: Rounding,
) -> Vec<usize> {
    let before = walk.keep.clone();
    let axes: Vec<_> =
        (0..constraints.axes.len()).filter(|&axis| constraints.axes[axis].is_layers).collect();
    let is_round = |walk: &GreedyState, axis: usize| {
        let left = walk.left[axis];
        left == constraints.axes[axis].width || left.is_multiple_of(rounding.multiple)
    };
    if rounding.direction == Direction::Down {
        for &axis in &axes {
            if !is_round(walk, axis) {
                lower(constraints, walk, scores, may_go, axis, |walk| is_round(walk, axis));
            }
        }
    }
    // Raising one layer may raise another one too, but no layer is lowered from here on, so this
    // ends.
    while let Some(&axis) = axes.iter().find(|&&axis| !is_round(walk, axis)) {
        while !is_round(walk, axis) {
            let removed =
                constraints.channel_groups(axis).filter(|&channel_group| !walk.keep[channel_group]);
            let Some(best) = removed.reduce(|best, channel_group| {
                if scores.by_channel_group[channel_group] > scores.by_channel_group[best] {
                    channel_group
                } else {
                    best
                }
            }) else {
                break;
            };
            walk.restore(constraints, best);
        }
    }
    (0..before.len())
        .filter(|&channel_group| before[channel_group] != walk.keep[channel_group])
        .collect()
}

/// Removes the least important channels of an axis until its width is round. If that fails,
/// restores all of them.
fn lower(
    constraints: &ConstraintIndex,
    walk: &mut GreedyState,
    scores: &Scores,
    may_go: &[bool],
    axis: usize,
    is_round: impl Fn(&GreedyState) -> bool,
) {
    let mut kept: Vec<_> = constraints
        .channel_groups(axis)
        .filter(|&channel_group| walk.keep[channel_group] && may_go[channel_group])
        .collect();
    kept.reverse();
    kept.sort_by(|&a, &b| {
        scores.by_channel_group[a]
            .partial_cmp(&scores.by_channel_group[b])
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut removed = Vec::new();
    for channel_group in kept {
        if walk.keep[channel_group] && walk.remove(constraints, channel_group).is_ok() {
            removed.push(channel_group);
            if is_round(walk) {
                return;
            }
        }
    }
    removed.into_iter().for_each(|channel_group| walk.restore(constraints, channel_group));
}
