//! Repair: changes an individual until it just meets the budget.

use fastrand::Rng;

use crate::select::PerGroup;

/// The numbers of removed channels on a straight path from an individual to the network without
/// channels, in steps.
const STEPS: usize = 1 << 12;

/// The budget of a search.
pub(super) struct Budget<'b, 'g> {
    per_group: &'b PerGroup<'g>,
    most: u64,
}

impl<'b, 'g> Budget<'b, 'g> {
    pub(super) fn new(per_group: &'b PerGroup<'g>, most: u64) -> Self {
        Self { per_group, most }
    }

    pub(super) fn is_met(&self, removed: &[usize]) -> bool {
        self.per_group.cost(removed) <= self.most
    }

    fn removable(&self, group: usize) -> usize {
        self.per_group.groups()[group].removable
    }

    /// Removes more channels, or fewer, of each group by about the same share, so that the budget
    /// is met, and one step less would not meet it. The network without all channels that may go
    /// has to meet it.
    pub(super) fn scaled(&self, removed: &[usize]) -> Vec<usize> {
        // Ratio r at step s: from 0 at 0, over r at STEPS, to 1 at 2 · STEPS.
        let at = |step: usize| -> Vec<usize> {
            let of = |(group, &removed): (usize, &usize)| {
                let all = self.removable(group);
                match step.checked_sub(STEPS) {
                    None => (removed * step + STEPS / 2) / STEPS,
                    Some(more) => removed + ((all - removed) * more + STEPS / 2) / STEPS,
                }
            };
            removed.iter().enumerate().map(of).collect()
        };
        let enough = least(2 * STEPS, |step| self.is_met(&at(step)));
        at(enough)
    }

    /// Restores channels as far as the budget allows: of each group, in a random order, first some
    /// and then all that it allows.
    pub(super) fn filled(&self, mut removed: Vec<usize>, random: &mut Rng) -> Vec<usize> {
        let mut order: Vec<_> = (0..removed.len()).collect();
        random.shuffle(&mut order);
        for share in [8, 1] {
            for &group in &order {
                let now = removed[group];
                let floor = now.saturating_sub(self.removable(group).div_ceil(share));
                let mut changed = removed.clone();
                let mut meets = |left: usize| {
                    changed[group] = left;
                    self.is_met(&changed)
                };
                // Most groups have no room for a single channel more.
                if now > floor && meets(now - 1) {
                    removed[group] = floor + least(now - 1 - floor, |more| meets(floor + more));
                }
            }
        }
        removed
    }

    /// Removes more channels of some groups, in a random order, until the budget is met; of all
    /// groups, if that is not enough.
    pub(super) fn traded(&self, mut removed: Vec<usize>, random: &mut Rng) -> Vec<usize> {
        let mut order: Vec<_> = (0..removed.len()).collect();
        random.shuffle(&mut order);
        for &group in &order {
            if self.is_met(&removed) {
                return removed;
            }
            let now = removed[group];
            let ceiling = (now + self.removable(group).div_ceil(8)).min(self.removable(group));
            let mut changed = removed.clone();
            removed[group] = now
                + least(ceiling - now, |more| {
                    changed[group] = now + more;
                    self.is_met(&changed)
                });
        }
        if self.is_met(&removed) { removed } else { self.scaled(&removed) }
    }
}

/// The least number up to `most` that passes a test which all larger numbers pass too; `most` if
/// none passes.
pub(super) fn least(most: usize, mut passes: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if passes(middle) { high = middle } else { low = middle + 1 }
    }
    high
}
