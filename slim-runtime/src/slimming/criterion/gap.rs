//! The gap in the scores of a trained network between channels that go and channels that stay.

/// With a gap, the largest score that goes is at most this share of the median of the scores that
/// stay. A sparsity penalty that works drives γ to 1e-5 and less.
const WIDE: f64 = 0.1;

/// The scores of the channels that go, compared with those of the channels that stay.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// The largest score that goes.
    pub largest: f64,
    /// The median of the scores that stay.
    pub median: f64,
}

impl Gap {
    /// `None` if no channel goes, or none stays.
    ///
    /// ```
    /// use slim_runtime::criterion::Gap;
    ///
    /// let gap = Gap::between([1e-5, 3e-5], vec![0.4, 0.2, 0.5]).unwrap();
    /// assert_eq!((gap.largest, gap.median, gap.is_wide()), (3e-5, 0.4, true));
    /// ```
    pub fn between(
        going: impl IntoIterator<Item = f64>,
        staying: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let largest = going.into_iter().reduce(f64::max)?;
        let mut staying: Vec<f64> = staying.into_iter().collect();
        let middle = staying.len() / 2;
        let median = (!staying.is_empty())
            .then(|| *staying.select_nth_unstable_by(middle, f64::total_cmp).1)?;
        Some(Self { largest, median })
    }

    /// Whether the channels that go contribute next to nothing: the largest score that goes is at
    /// most a tenth of the median of those that stay.
    pub fn is_wide(&self) -> bool {
        self.largest <= WIDE * self.median
    }
}
