//! The program `slim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    slim_cli::commands::main()
}
