//! A network that is compiled for inputs of one shape.

use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;

use crate::ffi::Program;
use crate::report::ShapeReport;
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Compiled {
    program: Program,
    /// What runs where the program does not.
    plain: Option<Program>,
    report: ShapeReport,
    runs: AtomicU64,
    fallbacks: AtomicU64,
}

impl Compiled {
    pub(crate) fn new(program: Program, plain: Option<Program>, report: ShapeReport) -> Self {
        Self { program, plain, report, runs: AtomicU64::new(0), fallbacks: AtomicU64::new(0) }
    }

    pub(crate) fn shape(&self) -> &[i64] {
        &self.report.shape
    }

    pub(crate) fn run(&self, input: &Tensor) -> Result<Tensor> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let output = self.program.run(input).or_else(|reason| {
            let plain = self.plain.as_ref().ok_or(reason)?;
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
            plain.run(input)
        });
        output.map_err(|reason| Error::Run { shape: self.report.shape.clone(), reason })
    }

    /// The report as of now.
    pub(crate) fn report(&self) -> ShapeReport {
        ShapeReport {
            runs: self.runs.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            ..self.report.clone()
        }
    }
}
