//! Rounds the widths of layers to multiples.

use super::greedy::{ConstraintIndex, GreedyState};
use super::scores::Scores;
use crate::slimming::{Direction, Rounding};

/// Rounds the width of every layer that has lost channels to a multiple. Returns the classes
/// (channel groups) that this removed or restored.
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
            let removed = constraints.classes(axis).filter(|&class| !walk.keep[class]);
            let Some(best) = removed.reduce(|best, class| {
                if scores.by_class[class] > scores.by_class[best] { class } else { best }
            }) else {
                break;
            };
            walk.restore(constraints, best);
        }
    }
    (0..before.len()).filter(|&class| before[class] != walk.keep[class]).collect()
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
    let mut kept: Vec<_> =
        constraints.classes(axis).filter(|&class| walk.keep[class] && may_go[class]).collect();
    kept.reverse();
    kept.sort_by(|&a, &b| {
        scores.by_class[a].partial_cmp(&scores.by_class[b]).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut removed = Vec::new();
    for class in kept {
        if walk.keep[class] && walk.remove(constraints, class).is_ok() {
            removed.push(class);
            if is_round(walk) {
                return;
            }
        }
    }
    removed.into_iter().for_each(|class| walk.restore(constraints, class));
}
