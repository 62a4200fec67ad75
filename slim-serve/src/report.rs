//! The report of a runner.

use std::fmt;

use serde::Serialize;
use slim_runtime::__private::{faster, table, with_spread};
use slim_runtime::Quartiles;

use crate::form::Form;

/// What a [`Runner`](crate::Runner) is compiled for, and what it has run. Prints as tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Every shape that is compiled now, the one that was run last at the end.
    pub shapes: Vec<ShapeReport>,
    /// How many shapes have been compiled, with those that had to go.
    pub compiled: u64,
    /// The most shapes that are kept.
    pub most: usize,
    /// Number of threads that libtorch computes on, in each thread that runs the network.
    pub threads: i32,
}

/// A shape that the network is compiled for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShapeReport {
    /// The shape of the input.
    pub shape: Vec<i64>,
    /// The form that runs.
    pub form: Form,
    /// Every form that was tried.
    pub forms: Vec<FormTrial>,
    /// Latency of the network's own forward pass, in seconds, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Quartiles>,
    /// How many times as fast as the network's own forward pass it is, in the rounds in which both
    /// were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_as_fast: Option<Quartiles>,
    /// The largest difference of an output from the network's, or from that of the file.
    pub difference: f64,
    /// The largest magnitude of an output.
    pub magnitude: f64,
    /// Time to compile the form, with its first run, in seconds.
    pub compiling: f64,
    /// How often it has run.
    pub runs: u64,
    /// How often it ran folded instead of fused, because a value had another shape than when it was
    /// compiled: the shape depends on the values of the input.
    pub fallbacks: u64,
}

/// The measurement of one form.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FormTrial {
    /// The form.
    pub form: Form,
    /// Its latency, in seconds; none for a shape that was not asked for, whose form is that of the
    /// sample's shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quartiles>,
    /// Why it could not be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
}

impl ShapeReport {
    /// Whether the runner may be as fast as the network: its gain is no larger than the noise of
    /// the measurement. `None` if it was not measured.
    pub fn is_within_noise(&self) -> Option<bool> {
        self.times_as_fast.map(|ratio| ratio.lower <= 1. && ratio.upper >= 1.)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shape in &self.shapes {
            writeln!(f, "{shape}\n")?;
        }
        let Self { compiled, most, threads, shapes } = self;
        let kept = shapes.len();
        write!(f, "{kept} of at most {most} shapes kept, {compiled} compiled, {threads} threads")
    }
}

impl fmt::Display for ShapeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self
            .network
            .map(|network| ["the network".to_owned(), with_spread(&network), String::new()]);
        let rows = self.forms.iter().map(|trial| {
            let note = match &trial.out {
                Some(reason) => format!("out: {reason}"),
                None if trial.form == self.form && trial.latency.is_none() => {
                    "taken unmeasured".to_owned()
                }
                None if trial.form == self.form => "chosen".to_owned(),
                None => String::new(),
            };
            let latency = trial.latency.as_ref().map(with_spread).unwrap_or_default();
            [trial.form.to_string(), latency, note]
        });
        let header = [format!("{:?}", self.shape), "latency (quartiles)".to_owned(), String::new()];
        writeln!(f, "{}", table(header, 3, network.into_iter().chain(rows)).trim_fmt())?;
        writeln!(
            f,
            "outputs (up to {:.3e}) differ by {:.1e} at most",
            self.magnitude, self.difference
        )?;
        write!(f, "compiled in {:.2} s", self.compiling)?;
        if let Some(ratio) = &self.times_as_fast {
            let noise = if self.is_within_noise() == Some(true) { ": within noise" } else { "" };
            write!(f, "; {} times as fast as the network{noise}", faster(ratio))?;
        }
        if self.runs > 0 {
            write!(f, "; run {} times", self.runs)?;
        }
        if self.fallbacks > 0 {
            write!(f, ", {} of them folded instead of fused", self.fallbacks)?;
        }
        Ok(())
    }
}
