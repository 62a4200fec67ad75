//! The median and quartiles of measurements.

use serde::Serialize;

/// The median of some measurements, and the two quartiles around it: half of the measurements lie
/// between the quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quartiles {
    /// The lower quartile: a quarter of the measurements is smaller.
    pub lower: f64,
    /// The median: half of the measurements are smaller.
    pub median: f64,
    /// The upper quartile: three quarters of the measurements are smaller.
    pub upper: f64,
}

impl Quartiles {
    /// The quartiles of at least one number, interpolated between neighbours as by NumPy's
    /// `percentile`. Those of no number are NaN.
    pub fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let position = share * sorted.len().saturating_sub(1) as f64;
            let below = sorted.get(position.floor() as usize).copied().unwrap_or(f64::NAN);
            let above = sorted.get(position.ceil() as usize).copied().unwrap_or(f64::NAN);
            below + (above - below) * position.fract()
        };
        Self { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }

    /// Whether the ranges between the quartiles overlap, so that the medians may differ by chance.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        self.lower <= other.upper && other.lower <= self.upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_numpys() {
        // numpy.percentile([7, 1, 3, 10, 2], [25, 50, 75]) and of [4, 1, 2, 3].
        assert_eq!(
            Quartiles::of(&[7., 1., 3., 10., 2.]),
            Quartiles { lower: 2., median: 3., upper: 7. }
        );
        assert_eq!(
            Quartiles::of(&[4., 1., 2., 3.]),
            Quartiles { lower: 1.75, median: 2.5, upper: 3.25 }
        );
        assert_eq!(Quartiles::of(&[5.]), Quartiles { lower: 5., median: 5., upper: 5. });
    }

    #[test]
    fn spreads_that_touch_overlap() {
        let spread = |lower, upper| Quartiles { lower, median: f64::midpoint(lower, upper), upper };
        assert!(spread(1., 2.).overlap(&spread(2., 3.)));
        assert!(spread(1., 4.).overlap(&spread(2., 3.)));
        assert!(!spread(1., 2.).overlap(&spread(2.1, 3.)));
        assert!(!spread(2.1, 3.).overlap(&spread(1., 2.)));
    }
}
