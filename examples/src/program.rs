//! How programs speak and end: one line on standard error, and an exit code that scripts can tell
//! apart.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Error, Result};

use crate::data::Missing;
use crate::options::Usage;
use crate::train::Interrupted;

/// Something went wrong.
const FAILED: u8 = 1;
/// The data set is not there, or the options are wrong; clap's own errors have the same.
const USAGE: u8 = 2;
/// Ended in order because someone wanted that, by Ctrl-C or by SIGTERM: what shells say of Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Runs a program. What it returns as an error goes to standard error in one line, with all its
/// causes.
pub fn main(run: impl FnOnce() -> Result<()>) -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    let code = exit_code(&error);
    // That it was interrupted is no news to whoever did it.
    let label = if code == INTERRUPTED { "" } else { "error: " };
    eprintln!("{label}{error:#}");
    ExitCode::from(code)
}

/// Prints a line on standard output. That nobody reads it any more, as behind `| head`, is no
/// reason to stop.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn exit_code(error: &Error) -> u8 {
    match () {
        () if error.is::<Interrupted>() => INTERRUPTED,
        () if error.is::<Missing>() || error.is::<Usage>() => USAGE,
        () => FAILED,
    }
}
