//! The ends of an axis of accuracies.

/// The accuracies at the two ends of an axis, in percent. All accuracies that it is made for lie
/// between them.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// The round numbers, in steps of 1 or 10, that enclose these accuracies. From 0 to 100 for no
    /// accuracies and for a single round number.
    pub(in crate::report) fn of(accuracies: impl Iterator<Item = f64>) -> Self {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) =
            accuracies.fold(ends, |(low, high), it| (f64::min(low, it), f64::max(high, it)));
        let step = if high - low < 4. { 1. } else { 10. };
        // A number that is round but for an error of rounding is its own end.
        let low = (low / step + 1e-9).floor() * step;
        let high = (high / step - 1e-9).ceil() * step;
        if low < high { Self { low, high } } else { Self { low: 0., high: 100. } }
    }

    /// The place of an accuracy on the axis: 0 at its low end, 1 at its high end.
    pub(super) fn share(self, accuracy: f64) -> f64 {
        ((accuracy - self.low) / (self.high - self.low)).clamp(0., 1.)
    }

    /// The accuracies at the low and at the high end, with their labels.
    pub(super) fn ends(self) -> [(f64, String); 2] {
        [self.low, self.high].map(|end| (end, format!("{end:.0} %")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_at_round_numbers() {
        let of = |accuracies: &[f64]| {
            let Range { low, high } = Range::of(accuracies.iter().copied());
            (low, high)
        };
        assert_eq!(of(&[93.2, 10.]), (10., 100.));
        assert_eq!(of(&[93.2, 91.7]), (91., 94.));
        assert_eq!((of(&[93.2, 85.]), of(&[100., 10.])), ((80., 100.), (10., 100.)));
        assert_eq!((of(&[]), of(&[50.])), ((0., 100.), (0., 100.)));
    }

    #[test]
    fn every_accuracy_lies_between_labels_that_say_where_the_axis_ends() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let most = if random.bool() { 100. } else { 3. };
            // Hundredths, so that some are round numbers.
            let accuracies: Vec<f64> =
                (0..3).map(|_| (random.f64() * most * 100.).round() / 100.).collect();
            let range = Range::of(accuracies.iter().copied());
            let ends = range.ends().map(|(end, label)| {
                let said: f64 = label.trim_end_matches(" %").parse().unwrap();
                assert!((said - end).abs() < 1e-9 && (0. ..=100.).contains(&end), "{label}");
                end
            });
            for accuracy in accuracies {
                let share = (accuracy - ends[0]) / (ends[1] - ends[0]);
                assert!((-1e-9..=1. + 1e-9).contains(&share), "{accuracy} in {ends:?}");
                assert!((range.share(accuracy) - share).abs() < 1e-9);
            }
        }
    }
}
