//! Latencies: the result of a measurement.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Speedup;
use crate::numeric::Quartiles;

/// The latency of a forward pass. Prints as
/// `61.0 ms (59.8–63.1), 41 runs, batch 1, cpu, 2 threads`: the median, the quartiles around it,
/// and the conditions of the measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Time of one run, in seconds.
    pub seconds: Quartiles,
    /// Number of measured runs.
    pub runs: usize,
    /// Number of samples per run, if known.
    pub batch: Option<i64>,
    /// `cpu`, or `cuda:0`.
    pub device: String,
    /// Number of threads that libtorch computes on.
    pub threads: i32,
}

impl Latency {
    /// The median time of one run.
    pub fn median(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds.median).unwrap_or_default()
    }

    /// The speedup of this latency over the latency `before`.
    pub fn against<'l>(&'l self, before: &'l Latency) -> Speedup<'l> {
        Speedup::new(self, before)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} runs", with_spread(&self.seconds), self.runs)?;
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        let s = if self.threads == 1 { "" } else { "s" };
        write!(f, ", {}, {} thread{s}", self.device, self.threads)
    }
}

/// `61.0 ms`
pub(super) fn time(seconds: f64) -> String {
    let unit = Unit::of(seconds);
    format!("{} {}", unit.number(seconds), unit.name)
}

/// `61.0 ms (59.8–63.1)`
pub fn with_spread(seconds: &Quartiles) -> String {
    let unit = Unit::of(seconds.median);
    format!(
        "{} {} ({}–{})",
        unit.number(seconds.median),
        unit.name,
        unit.number(seconds.lower),
        unit.number(seconds.upper)
    )
}

/// The unit and the number of decimals for times of about the same length.
struct Unit {
    name: &'static str,
    per_second: f64,
    decimals: usize,
}

impl Unit {
    fn of(seconds: f64) -> Self {
        let (name, per_second) = match seconds {
            ..1e-3 => ("µs", 1e6),
            ..1. => ("ms", 1e3),
            _ => ("s", 1.),
        };
        // Three significant digits.
        let decimals = match seconds * per_second {
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        Self { name, per_second, decimals }
    }

    fn number(&self, seconds: f64) -> String {
        format!("{:.*}", self.decimals, seconds * self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::numeric::device_name;

    #[test]
    fn a_latency_says_what_was_measured_where() {
        let seconds = Quartiles { lower: 0.0598, median: 0.061, upper: 0.0631 };
        let latency = Latency {
            seconds,
            runs: 41,
            batch: Some(1),
            device: device_name(Device::Cpu),
            threads: 2,
        };
        assert_eq!(latency.to_string(), "61.0 ms (59.8–63.1), 41 runs, batch 1, cpu, 2 threads");
        let latency =
            Latency { batch: None, device: device_name(Device::Cuda(1)), threads: 1, ..latency };
        assert_eq!(latency.to_string(), "61.0 ms (59.8–63.1), 41 runs, cuda:1, 1 thread");
        assert_eq!(latency.median(), Duration::from_millis(61));
    }

    #[test]
    fn times_have_three_digits() {
        let said: Vec<_> =
            [2.5e-7, 9.996e-6, 1.2345e-4, 9.994e-4, 0.00123, 0.0610, 0.2594, 1.5, 75.25]
                .map(time)
                .into();
        assert_eq!(
            said,
            [
                "0.25 µs", "10.0 µs", "123 µs", "999 µs", "1.23 ms", "61.0 ms", "259 ms", "1.50 s",
                "75.2 s"
            ]
        );
    }
}
