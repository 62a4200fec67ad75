//! Interleaved measurement of several cases.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Benchmark;
use super::against::times;
use super::latency::{Latency, with_spread};
use crate::error::CheckError;
use crate::numeric::{Clock, Quartiles};
use crate::panics::caught;
use crate::table::table;
use crate::{Error, Result};

/// Cases to be measured in turn; made by [`Benchmark::in_turn`].
#[must_use = "nothing is measured before `run`"]
pub struct Interleaved<'c> {
    benchmark: Benchmark,
    cases: Vec<(String, Case<'c>)>,
}

enum Case<'c> {
    /// Returns the value that is dropped after the clock has stopped.
    Pass(Box<dyn FnMut() -> Box<dyn Any> + 'c>),
    /// Returns its own duration.
    Timed(Box<dyn FnMut() -> Result<Duration> + 'c>),
}

impl Case<'_> {
    fn warm_up(&mut self, clock: &Clock, most: Duration) -> Result<()> {
        match self {
            Case::Pass(pass) => Clock::warm_up(|| clock.time(pass), most),
            Case::Timed(_) => Clock::warm_up(|| self.time(clock), most),
        }
    }

    fn time(&mut self, clock: &Clock) -> Result<Duration> {
        match self {
            Case::Pass(pass) => clock.time(pass),
            Case::Timed(pass) => caught(pass).unwrap_or_else(|message| {
                let reason = format!("it panics: {message}");
                Err(Error::Check(CheckError::Benchmark { reason }))
            }),
        }
    }
}

impl<'c> Interleaved<'c> {
    pub(super) fn new(benchmark: Benchmark) -> Self {
        Self { benchmark, cases: Vec::new() }
    }

    /// Adds a case under this name.
    pub fn case<T: 'static>(
        mut self,
        name: impl Into<String>,
        mut pass: impl FnMut() -> T + 'c,
    ) -> Self {
        self.cases.push((name.into(), Case::Pass(Box::new(move || Box::new(pass())))));
        self
    }

    /// Adds a case that measures itself, such as one that runs in another process. `pass` returns
    /// the duration of one run, or an error, which ends the measurement. It is called without
    /// gradients, as all cases are, and for the warm-up, too.
    pub fn timed_case(
        mut self,
        name: impl Into<String>,
        pass: impl FnMut() -> Result<Duration> + 'c,
    ) -> Self {
        self.cases.push((name.into(), Case::Timed(Box::new(pass))));
        self
    }

    /// Measures every case once per round, starting each round with another case. The time of the
    /// benchmark applies to each case.
    ///
    /// # Errors
    /// Those of [`Benchmark::measure`], and those of the cases that measure themselves.
    pub fn run(mut self) -> Result<Compared> {
        self.benchmark.check()?;
        let _no_grad = tch::no_grad_guard();
        let clock = Clock::new(self.benchmark.device);
        for (_, case) in &mut self.cases {
            case.warm_up(&clock, self.benchmark.warm_up)?;
        }
        let count = self.cases.len();
        let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); count];
        let (mut round, mut spent) = (0, Duration::ZERO);
        while count > 0 && self.benchmark.wants_more(round, spent, count as u32) {
            for case in (0..count).map(|turn| (round + turn) % count) {
                let time = self.cases[case].1.time(&clock)?;
                spent = spent.saturating_add(time);
                rounds[case].push(time.as_secs_f64());
            }
            round += 1;
        }
        let cases = self.cases.into_iter().zip(&rounds);
        let latencies =
            cases.map(|((name, _), times)| (name, self.benchmark.latency(times))).collect();
        Ok(Compared { cases: latencies, rounds })
    }
}

/// The result of an interleaved measurement. Prints as a table that compares every case with the
/// first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compared {
    /// Each case by name, in the order in which they were added.
    pub cases: Vec<(String, Latency)>,
    /// Per case: the seconds of each round.
    pub rounds: Vec<Vec<f64>>,
}

impl Compared {
    /// The latency of a case; `None` if there is no case of this name.
    pub fn case(&self, name: &str) -> Option<&Latency> {
        self.cases.iter().find(|(case, _)| case == name).map(|(_, latency)| latency)
    }

    /// How many times as fast as `other` a case is: the median and the quartiles of the ratio in
    /// each round. A disturbance that lasts longer than a round affects both times of the round, so
    /// this is more accurate than the ratio of two medians.
    pub fn times_as_fast(&self, name: &str, other: &str) -> Option<Quartiles> {
        let index = |name| self.cases.iter().position(|(case, _)| case == name);
        Some(self.ratio(index(name)?, index(other)?))
    }

    pub(crate) fn ratio(&self, case: usize, other: usize) -> Quartiles {
        let ratios: Vec<_> = self.rounds[case]
            .iter()
            .zip(&self.rounds[other])
            .map(|(time, other)| other / time)
            .collect();
        Quartiles::of(&ratios)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, first)) = self.cases.first() else {
            return f.write_str("nothing was measured");
        };
        let row = |(index, (name, latency)): (usize, &(String, Latency))| {
            let faster = match index {
                0 => String::new(),
                _ => faster(&self.ratio(index, 0)),
            };
            [name.clone(), with_spread(&latency.seconds), faster]
        };
        let rows = self.cases.iter().enumerate().map(row);
        writeln!(
            f,
            "{}",
            table(["case", "median (quartiles)", "times as fast"], 1, rows).trim_fmt()
        )?;
        let batch = first.batch.map(|batch| format!(", batch {batch}")).unwrap_or_default();
        write!(f, "{} rounds{batch}, {}, {} threads", first.runs, first.device, first.threads)
    }
}

/// `2.9 (2.8–3.0)`
pub fn faster(ratio: &Quartiles) -> String {
    format!("{} ({}–{})", times(ratio.median), times(ratio.lower), times(ratio.upper))
}
