//! The axis of scores: logarithmic, with a separate place for zero.

/// Largest number of decades on the axis. Smaller scores are drawn at its lowest decade.
const MOST_DECADES: i32 = 9;
/// Share of the axis for zeros.
const ZERO: f64 = 0.05;
/// Share of the axis between zero and the logarithmic part.
const GAP: f64 = 0.05;

/// An axis.
pub(super) struct Scale {
    low: i32,
    high: i32,
    pub(super) bins: usize,
}

impl Scale {
    /// An axis for scores, none of which is negative.
    pub(super) fn of(scores: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0_f64);
        for score in scores.filter(|&score| score > 0.) {
            (least, most) = (least.min(score), most.max(score));
        }
        let high = if most > 0. { most.log10().ceil() as i32 } else { 0 };
        let low = if most > 0. { least.log10().floor() as i32 } else { -1 };
        let low = low.clamp(high - MOST_DECADES, high - 1);
        let per_decade = (36 / (high - low)).max(4);
        Self { low, high, bins: ((high - low) * per_decade) as usize }
    }

    /// Position of a score, as a share of the axis.
    pub(super) fn share(&self, score: f64) -> f64 {
        if score <= 0. {
            return ZERO / 2.;
        }
        let share = (score.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        ZERO + GAP + (1. - ZERO - GAP) * share.clamp(0., 1.)
    }

    /// The bin of a score; `None` for zero.
    pub(super) fn bin(&self, score: f64) -> Option<usize> {
        let share = (score.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        (score > 0.).then(|| ((share * self.bins as f64) as usize).min(self.bins - 1))
    }

    /// Start and end of a bin, as shares of the axis.
    pub(super) fn ends(&self, bin: Option<usize>) -> (f64, f64) {
        let end = |bin: usize| ZERO + GAP + (1. - ZERO - GAP) * bin as f64 / self.bins as f64;
        bin.map_or((0., ZERO), |bin| (end(bin), end(bin + 1)))
    }

    /// Position of a threshold. A threshold of zero is drawn behind the zeros.
    pub(super) fn cut(&self, threshold: f64) -> f64 {
        if threshold <= 0. { ZERO + GAP / 2. } else { self.share(threshold) }
    }

    /// Labels of zero and of powers of ten, with their positions. The axis has room for `most`
    /// labels; powers are left out so that labels do not touch.
    pub(super) fn ticks(&self, most: i32) -> Vec<(String, f64)> {
        // Leave out the lowest power: zero's label is next to it.
        let every = (self.high - self.low - 1) / (most - 1).max(1) + 1;
        let powers = (self.low + 1..=self.high).rev().step_by(every as usize);
        let spelled = powers.map(|power| {
            let spelled = if (-2..=2).contains(&power) {
                format!("{}", 10_f64.powi(power))
            } else {
                format!("1e{power}")
            };
            (spelled, self.share(10_f64.powi(power)))
        });
        std::iter::once(("0".to_owned(), ZERO / 2.)).chain(spelled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_in_the_bin_that_is_drawn_there() {
        let scores = [0., 1e-30, 3e-8, 1e-6, 2e-3, 0.1, 0.55, 1., 1.7];
        let scale = Scale::of(scores.into_iter());
        for score in scores {
            let (from, to) = scale.ends(scale.bin(score));
            assert!(
                (from - 1e-9..=to + 1e-9).contains(&scale.share(score)),
                "{score}: {from}..{to}"
            );
        }
        assert_eq!(
            (scale.bin(0.), scale.bin(1e-30), scale.bin(1e9)),
            (None, Some(0), Some(scale.bins - 1))
        );
        assert!(scale.ends(None).1 < scale.cut(0.) && scale.cut(0.) < scale.ends(Some(0)).0);
    }

    #[test]
    fn nothing_but_zeros_has_an_axis_too() {
        for scores in [vec![], vec![0., 0.], vec![1.], vec![0.5, 0.5]] {
            let scale = Scale::of(scores.iter().copied());
            assert!(scale.bins > 0 && scale.ticks(5).len() > 1);
            assert!(scores.iter().all(|&score| (0. ..=1.).contains(&scale.share(score))));
        }
    }
}
