//! Predictions, and what measurements say of them.

use std::fmt;

use super::LatencyTable;
use crate::Result;
use crate::numeric::Quartiles;
use crate::plan::Plan;
use crate::serve::benchmark::{Latency, with_spread};
use crate::table::{percent, table};

/// The predicted latency of a network before and after a plan, in seconds; made by
/// [`LatencyTable::predict`]. Prints as `9.81 ms (9.60–10.2) → 4.90 ms (4.80–5.10), 49.9 %`.
///
/// The quartiles are the sums of the layers' quartiles: the spread of a network whose layers are
/// all slow at once.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PredictedLatency {
    /// Of the network that the plan is made for.
    pub before: Quartiles,
    /// Of the slimmed network.
    pub after: Quartiles,
}

impl PredictedLatency {
    /// The share of the latency that stays: the ratio of the medians.
    pub fn share(&self) -> f64 {
        self.after.median / self.before.median
    }
}

impl fmt::Display for PredictedLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (with_spread(&self.before), with_spread(&self.after));
        write!(f, "{before} → {after}, {}", percent(self.share()))
    }
}

/// A prediction beside measurements of the real networks; made by [`LatencyTable::check`]. Prints
/// as a table with the errors of the prediction.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LatencyCheck {
    /// What the table predicts.
    pub predicted: PredictedLatency,
    /// The measured latency of the network before slimming.
    pub before: Latency,
    /// The measured latency of the slimmed network.
    pub after: Latency,
}

impl LatencyTable {
    /// Compares the predicted latency of a network before and after `plan` with measured ones, such
    /// as those of [`benchmark`](crate::benchmark()): of the same batch, device and number of
    /// threads.
    ///
    /// # Errors
    /// Those of [`predict`](Self::predict);
    /// [`ArgumentError::LatencyTable`](crate::error::ArgumentError::LatencyTable) when a measurement
    /// is one of another device or number of threads.
    pub fn check(&self, plan: &Plan, before: &Latency, after: &Latency) -> Result<LatencyCheck> {
        for latency in [before, after] {
            let (device, threads) = (latency.device.clone(), latency.threads);
            let kind = self.conditions.kind.clone();
            self.ensure_holds(&super::Conditions { device, threads, kind })?;
        }
        Ok(LatencyCheck {
            predicted: self.predict(plan)?,
            before: before.clone(),
            after: after.clone(),
        })
    }
}

impl LatencyCheck {
    /// The error of the predicted latencies before and after slimming, relative to the measured
    /// ones: -0.1 where a prediction is 10 % too low.
    pub fn errors(&self) -> [f64; 2] {
        let error = |predicted: Quartiles, measured: &Latency| {
            predicted.median / measured.seconds.median - 1.
        };
        [error(self.predicted.before, &self.before), error(self.predicted.after, &self.after)]
    }

    /// The share of the latency that stays, as measured: the ratio of the medians.
    pub fn share(&self) -> f64 {
        self.after.seconds.median / self.before.seconds.median
    }

    /// The predicted share minus the measured one.
    pub fn share_error(&self) -> f64 {
        self.predicted.share() - self.share()
    }
}

/// `+4.8 %`
fn signed(share: f64) -> String {
    format!("{:+.1} %", 100. * share)
}

impl fmt::Display for LatencyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.errors();
        let row = |name: &str, predicted: &Quartiles, measured: &Latency, error| {
            [name.to_owned(), with_spread(predicted), with_spread(&measured.seconds), signed(error)]
        };
        let rows = [
            row("before", &self.predicted.before, &self.before, before),
            row("slimmed", &self.predicted.after, &self.after, after),
            [
                "share".to_owned(),
                percent(self.predicted.share()),
                percent(self.share()),
                format!("{:+.1} points", 100. * self.share_error()),
            ],
        ];
        let header = ["latency", "predicted", "measured", "error of the prediction"];
        writeln!(f, "{}", table(header, 1, rows).trim_fmt())?;
        let Latency { device, threads, batch, .. } = &self.after;
        let batch = batch.map(|batch| format!("batch {batch}, ")).unwrap_or_default();
        let s = if *threads == 1 { "" } else { "s" };
        write!(f, "medians (quartiles), {batch}{device}, {threads} thread{s}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quartiles(milliseconds: f64) -> Quartiles {
        let seconds = milliseconds / 1e3;
        Quartiles { lower: 0.98 * seconds, median: seconds, upper: 1.03 * seconds }
    }

    #[test]
    fn the_error_of_a_prediction_is_shown_beside_both() {
        let latency = |milliseconds| Latency {
            seconds: quartiles(milliseconds),
            runs: 15,
            batch: Some(1),
            device: "cpu".to_owned(),
            threads: 1,
        };
        let predicted = PredictedLatency { before: quartiles(9.), after: quartiles(4.5) };
        let check = LatencyCheck { predicted, before: latency(10.), after: latency(4.) };
        assert!((check.errors()[0] + 0.1).abs() < 1e-12);
        assert!((check.errors()[1] - 0.125).abs() < 1e-12);
        assert!((check.share_error() - 0.1).abs() < 1e-12);
        assert_eq!(predicted.to_string(), "9.00 ms (8.82–9.27) → 4.50 ms (4.41–4.63), 50.0 %");
        let expected = "
───────────────────────────────────────────────────────────────────────────────
 latency             predicted              measured   error of the prediction
───────────────────────────────────────────────────────────────────────────────
 before    9.00 ms (8.82–9.27)    10.0 ms (9.8–10.3)                   -10.0 %
 slimmed   4.50 ms (4.41–4.63)   4.00 ms (3.92–4.12)                   +12.5 %
 share                  50.0 %                40.0 %              +10.0 points
───────────────────────────────────────────────────────────────────────────────
medians (quartiles), batch 1, cpu, 1 thread";
        assert_eq!(check.to_string(), expected.trim_start());
    }
}
