//! Speedups: compares two latencies.

use std::fmt;

use super::Latency;
use super::latency::time;

/// The speedup of one latency over another; made by [`Latency::against`]. Prints as
/// `61.0 ms → 21.0 ms, 2.9 times as fast`. The text also says if the quartiles overlap, so that the
/// speedup may be chance, and what else differed between the measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speedup<'l> {
    after: &'l Latency,
    before: &'l Latency,
}

impl<'l> Speedup<'l> {
    pub(super) fn new(after: &'l Latency, before: &'l Latency) -> Self {
        Self { after, before }
    }

    /// How many times as fast the network has become: the ratio of the medians.
    pub fn times(&self) -> f64 {
        self.before.seconds.median / self.after.seconds.median
    }

    /// Whether the quartiles of the two overlap.
    pub fn is_within_spread(&self) -> bool {
        self.before.seconds.overlap(&self.after.seconds)
    }

    /// The conditions that differ between the two measurements.
    fn differences(&self) -> Vec<String> {
        let Self { after, before } = self;
        let batch = |latency: &Latency| {
            latency.batch.map(|batch| format!("batch {batch}")).unwrap_or_default()
        };
        let threads = |latency: &Latency| format!("{} threads", latency.threads);
        let pairs = [
            (batch(before), batch(after)),
            (before.device.clone(), after.device.clone()),
            (threads(before), threads(after)),
        ];
        let known = |(before, after): &(String, String)| {
            before != after && !before.is_empty() && !after.is_empty()
        };
        pairs
            .into_iter()
            .filter(known)
            .map(|(before, after)| format!("{before} → {after}"))
            .collect()
    }
}

impl fmt::Display for Speedup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}, ", time(self.before.seconds.median), time(self.after.seconds.median))?;
        write!(f, "{} times as fast", times(self.times()))?;
        if self.is_within_spread() {
            f.write_str(" (the spreads overlap)")?;
        }
        let differences = self.differences();
        if !differences.is_empty() {
            write!(f, "; not measured alike: {}", differences.join(", "))?;
        }
        Ok(())
    }
}

/// `2.9`, `0.83`: two significant digits.
pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        ..0.995 => format!("{ratio:.2}"),
        ..9.95 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Quartiles;
    use super::*;

    fn latency(milliseconds: f64, spread: f64) -> Latency {
        let seconds = Quartiles {
            lower: (milliseconds - spread) / 1e3,
            median: milliseconds / 1e3,
            upper: (milliseconds + spread) / 1e3,
        };
        Latency { seconds, runs: 15, batch: Some(1), device: "cpu".to_owned(), threads: 2 }
    }

    #[test]
    fn what_was_won_is_said() {
        let said = |after: &Latency, before: &Latency| after.against(before).to_string();
        let (dense, slim) = (latency(61., 2.), latency(21., 1.));
        assert_eq!(said(&slim, &dense), "61.0 ms → 21.0 ms, 2.9 times as fast");
        assert_eq!(said(&dense, &slim), "21.0 ms → 61.0 ms, 0.34 times as fast");
        assert_eq!(
            said(&latency(60., 2.), &dense),
            "61.0 ms → 60.0 ms, 1.0 times as fast (the spreads overlap)"
        );
        assert_eq!(said(&latency(3., 0.), &dense), "61.0 ms → 3.00 ms, 20 times as fast");
        assert!((slim.against(&dense).times() - 61. / 21.).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let dense = latency(61., 2.);
        let other =
            Latency { batch: Some(8), device: "cuda:0".to_owned(), threads: 1, ..latency(21., 1.) };
        let said = other.against(&dense).to_string();
        assert_eq!(
            said,
            "61.0 ms → 21.0 ms, 2.9 times as fast; not measured alike: batch 1 → batch 8, cpu → cuda:0, 2 threads → 1 threads"
        );
        let unknown = Latency { batch: None, ..latency(21., 1.) };
        assert_eq!(unknown.against(&dense).to_string(), "61.0 ms → 21.0 ms, 2.9 times as fast");
    }
}
