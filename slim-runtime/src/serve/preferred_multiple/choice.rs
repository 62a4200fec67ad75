//! Chooses the best of the measured multiples.

use crate::numeric::Quartiles;

/// A gain below this does not count: the convolutions only stand in for a network.
const LEAST_GAIN: f64 = 1.02;

/// The fastest of `count` cases in ascending order. A later case replaces the best before it only
/// if it is faster by 2 %, and faster in three of four rounds.
///
/// `ratio(a, b)` returns how many times as fast as `b` case `a` is.
pub(super) fn choose(count: usize, ratio: impl Fn(usize, usize) -> Quartiles) -> usize {
    (1..count).fold(0, |best, case| {
        let gain = ratio(case, best);
        if gain.median >= LEAST_GAIN && gain.lower > 1. { case } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chooses among cases with these times, each with a relative spread of `spread`.
    fn chosen(times: &[f64], spread: f64) -> usize {
        choose(times.len(), |case, other| {
            let median = times[other] / times[case];
            Quartiles { lower: median * (1. - spread), median, upper: median * (1. + spread) }
        })
    }

    #[test]
    fn the_fastest_is_chosen() {
        assert_eq!(chosen(&[10., 9.8, 8., 6., 5., 6., 9.], 0.01), 4);
        assert_eq!(chosen(&[10., 11., 12.], 0.01), 0);
        assert_eq!(chosen(&[10., 12., 5.], 0.01), 2, "what is in between may be slow");
    }

    #[test]
    fn a_larger_one_has_to_win_by_more_than_the_noise() {
        assert_eq!(chosen(&[10., 8., 7.6], 0.1), 1);
        assert_eq!(chosen(&[10., 8., 7.6], 0.01), 2);
        assert_eq!(chosen(&[10., 9.9, 9.85], 0.001), 0, "one per cent is no gain, however sure");
    }

    #[test]
    fn nan_wins_nothing() {
        assert_eq!(
            choose(3, |_, _| Quartiles { lower: f64::NAN, median: f64::NAN, upper: f64::NAN }),
            0
        );
    }
}
