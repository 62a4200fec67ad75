//! Which of the measured ones is best.

use crate::numeric::Quartiles;

/// A gain below this is none: the convolutions stand for a network, and are not the network.
const LEAST_GAIN: f64 = 1.02;

/// Of `count` cases in ascending order, the fastest; a later one only if it is faster than the best
/// before it by 2 % and, round by round, in three of four rounds.
///
/// `ratio(a, b)` says how many times as fast as `b` a case is.
pub(super) fn choose(count: usize, ratio: impl Fn(usize, usize) -> Quartiles) -> usize {
    (1..count).fold(0, |best, case| {
        let gain = ratio(case, best);
        if gain.median >= LEAST_GAIN && gain.lower > 1. { case } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases that take so long, each give or take a share of it.
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
