//! The share that several ranking groups lose alike, to be within one budget.

use super::ranking_groups::RankingGroup;
use super::scores::Scores;

/// In which order channel groups go as the share grows that each of several ranking groups loses.
pub(super) struct CommonShare {
    /// The channel groups. Those that the rule of a ratio removes at a smaller share come first.
    pub(super) order: Vec<usize>,
    /// How many of them go at each share, ascending from 0. Between two of these numbers there is
    /// no share.
    pub(super) ends: Vec<usize>,
}

impl CommonShare {
    pub(super) fn new(groups: &[RankingGroup], scores: &Scores, sharing: &[usize]) -> Self {
        // The smallest share at which a number of channel groups of a ranking group go.
        let mut steps: Vec<(f64, usize, usize)> = Vec::new();
        for &index in sharing {
            let ranked = &groups[index].ranked;
            for (at, &threshold) in ranked.iter().enumerate() {
                if at == 0 || ranked[at - 1] < threshold {
                    let count = groups[index].not_above(scores, threshold);
                    steps.push((least_share(at, ranked.len()), index, count));
                }
            }
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (mut order, mut ends) = (Vec::new(), vec![0]);
        let mut done = vec![0; groups.len()];
        for at_one_share in steps.chunk_by(|a, b| a.0 == b.0) {
            for &(_, index, count) in at_one_share {
                order.extend(&groups[index].order[done[index]..count]);
                done[index] = count;
            }
            ends.push(order.len());
        }
        Self { order, ends }
    }
}

/// The smallest share, above 0, with `⌊entries · share⌋ ≥ at`, in floating-point arithmetic.
fn least_share(at: usize, entries: usize) -> f64 {
    let reaches = |share: f64| (entries as f64 * share) as usize >= at;
    let mut share = (at as f64 / entries as f64).max(f64::MIN_POSITIVE);
    while !reaches(share) {
        share = share.next_up();
    }
    while share > f64::MIN_POSITIVE && reaches(share.next_down()) {
        share = share.next_down();
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_smallest_that_reaches_its_entry() {
        assert_eq!(least_share(0, 7), f64::MIN_POSITIVE);
        assert_eq!(least_share(1, 2), 0.5);
        for entries in 1..200 {
            for at in 1..entries {
                let share = least_share(at, entries);
                let reached = |share: f64| (entries as f64 * share) as usize;
                assert_eq!((reached(share), reached(share.next_down())), (at, at - 1));
            }
        }
    }
}
