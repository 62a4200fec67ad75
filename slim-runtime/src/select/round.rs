//! Numbers of channels that are multiples.

use super::scores::Scores;
use super::walk::{Terrain, Walk};
use crate::slimming::{Direction, Rounding};

/// Makes the number of channels of every layer that has lost some a multiple. Returns the classes whose fate that changed.
pub(super) fn round(
    terrain: &Terrain,
    walk: &mut Walk,
    scores: &Scores,
    may_go: &[bool],
    rounding: Rounding,
) -> Vec<usize> {
    let before = walk.keep.clone();
    let axes: Vec<_> =
        (0..terrain.axes.len()).filter(|&axis| terrain.axes[axis].is_layers).collect();
    let is_round = |walk: &Walk, axis: usize| {
        let left = walk.left[axis];
        left == terrain.axes[axis].width || left.is_multiple_of(rounding.multiple)
    };
    if rounding.direction == Direction::Down {
        for &axis in &axes {
            if !is_round(walk, axis) {
                lower(terrain, walk, scores, may_go, axis, |walk| is_round(walk, axis));
            }
        }
    }
    // Raising one layer may raise another with it, and nothing is ever lowered again, so this ends.
    while let Some(&axis) = axes.iter().find(|&&axis| !is_round(walk, axis)) {
        while !is_round(walk, axis) {
            let removed = terrain.classes(axis).filter(|&class| !walk.keep[class]);
            let Some(best) = removed.reduce(|best, class| {
                if scores.by_class[class] > scores.by_class[best] { class } else { best }
            }) else {
                break;
            };
            walk.restore(terrain, best);
        }
    }
    (0..before.len()).filter(|&class| before[class] != walk.keep[class]).collect()
}

/// Removes the least important channels of an axis until it is round, or none.
fn lower(
    terrain: &Terrain,
    walk: &mut Walk,
    scores: &Scores,
    may_go: &[bool],
    axis: usize,
    is_round: impl Fn(&Walk) -> bool,
) {
    let mut kept: Vec<_> =
        terrain.classes(axis).filter(|&class| walk.keep[class] && may_go[class]).collect();
    kept.reverse();
    kept.sort_by(|&a, &b| {
        scores.by_class[a].partial_cmp(&scores.by_class[b]).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut removed = Vec::new();
    for class in kept {
        if walk.keep[class] && walk.remove(terrain, class).is_ok() {
            removed.push(class);
            if is_round(walk) {
                return;
            }
        }
    }
    removed.into_iter().for_each(|class| walk.restore(terrain, class));
}
