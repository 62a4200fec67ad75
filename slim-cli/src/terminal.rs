//! Output of the programs.

use std::fmt::Display;
use std::io::Write;

/// Prints a line on standard output. A closed pipe, as after `| head`, does not end the program.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
