//! How programs end: one line on standard error, and an exit code that scripts can tell apart.

use std::process::ExitCode;

use anyhow::{Error, Result};

use crate::data::Missing;
use crate::measure::Stopped;
use crate::options::Usage;
use crate::processes::ReportedElsewhere;
use crate::train::{INTERRUPTED, Interrupted};

/// Something went wrong.
const FAILED: u8 = 1;
/// The data set is missing, or the options are wrong; clap's own errors have the same code.
const USAGE: u8 = 2;

/// Runs a program. An error goes to standard error in one line, with all its causes, unless another
/// process reports it.
pub fn main(run: impl FnOnce() -> Result<()>) -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    let code = exit_code(&error);
    if error.is::<ReportedElsewhere>() {
        return ExitCode::from(code);
    }
    // The user caused an interrupt, so it is not labelled as an error.
    let label = if code == INTERRUPTED { "" } else { "error: " };
    eprintln!("{label}{error:#}");
    ExitCode::from(code)
}

fn exit_code(error: &Error) -> u8 {
    match () {
        () if error.is::<Interrupted>() || error.is::<Stopped>() => INTERRUPTED,
        () if error.is::<Missing>() || error.is::<Usage>() => USAGE,
        () => FAILED,
    }
}
