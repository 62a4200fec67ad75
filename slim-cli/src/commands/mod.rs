//! The commands of `slim`, one module each: its options, and a `run` function.

mod demo;
mod export;
mod iterate;
mod prune;
mod report;
mod search;
mod sensitivity;
mod train;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::processes::is_idle;
use crate::program;

/// Train a network with channel sparsity, prune it, fine-tune it (Network Slimming, ICCV 2017).
#[derive(Debug, Parser)]
#[command(name = "slim", version, max_term_width = 110, disable_help_subcommand = true)]
struct Slim {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Options),
    Prune(prune::Options),
    Iterate(iterate::Options),
    Sensitivity(sensitivity::Options),
    Search(search::Options),
    Export(export::Options),
    Demo(demo::Options),
    Report(report::Options),
    Completions(CompletionsOptions),
}

impl Command {
    /// The name of a command that several processes cannot share.
    fn takes_one_process(&self) -> Option<&'static str> {
        match self {
            Command::Prune(_) => Some("prune"),
            Command::Iterate(_) => Some("iterate"),
            Command::Sensitivity(_) => Some("sensitivity"),
            Command::Search(_) => Some("search"),
            Command::Export(_) => Some("export"),
            Command::Demo(_) => Some("demo"),
            Command::Report(_) => Some("report"),
            Command::Train(_) | Command::Completions(_) => None,
        }
    }

    fn run(&self) -> Result<()> {
        match self {
            Command::Train(options) => train::run(options),
            Command::Prune(options) => prune::run(options),
            Command::Iterate(options) => iterate::run(options),
            Command::Sensitivity(options) => sensitivity::run(options),
            Command::Search(options) => search::run(options),
            Command::Export(options) => export::run(options),
            Command::Demo(options) => demo::run(options),
            Command::Report(options) => report::run(options),
            Command::Completions(CompletionsOptions { shell }) => {
                clap_complete::generate(*shell, &mut Slim::command(), "slim", &mut io::stdout());
                Ok(())
            }
        }
    }
}

/// Print a script that completes the commands and options of `slim` in a shell
#[derive(Debug, clap::Args)]
struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Runs `slim` with the arguments of the process.
pub fn main() -> ExitCode {
    let Slim { command } = Slim::parse_from(arguments(std::env::args_os()));
    if command.takes_one_process().is_some_and(is_idle) {
        return ExitCode::SUCCESS;
    }
    program::main(|| command.run())
}

/// Runs `slim` with these arguments, of which the first is the name of the program.
///
/// # Errors
/// Arguments that `slim` does not take, and the errors of the command.
pub fn run(given: impl IntoIterator<Item = OsString>) -> Result<()> {
    Slim::try_parse_from(arguments(given))?.command.run()
}

const SPARSITY: &str = "--sparsity-regularization";

/// Rewrites arguments for clap. The reference's `-sr`, which clap would read as `-s` and `-r`,
/// becomes the long option; `iterate` always trains with sparsity.
fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let long = |argument| if argument == "-sr" { SPARSITY.into() } else { argument };
    let mut arguments: Vec<_> = given.into_iter().map(long).collect();
    if arguments.get(1).is_some_and(|command| command == "iterate") {
        arguments.push(SPARSITY.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Arch;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        let given = arguments(format!("slim {line}").split_whitespace().map(OsString::from));
        Slim::try_parse_from(given).map(|slim| slim.command)
    }

    #[test]
    fn each_pass_of_iterate_trains_with_sparsity_whether_or_not_it_is_asked_for() {
        for (line, factor) in [
            ("", 1e-4),
            ("-sr", 1e-4),
            ("--s 1e-3", 1e-3),
            ("-sr --s 1e-3", 1e-3),
            ("--s 1e-3 -sr", 1e-3),
            ("--penalty group-lasso", 1e-4),
        ] {
            let Ok(Command::Iterate(options)) = parsed(&format!("iterate {line}")) else {
                panic!("`{line}` is refused")
            };
            let sparsity = options.recipes(Arch::Vgg).map(|recipe| recipe.sparsity);
            assert_eq!(sparsity, [factor, 0.], "`{line}`");
        }
        // `slim train` trains without sparsity by default, so that the factor alone is an error.
        assert!(parsed("train --s 1e-3").is_err() && parsed("train -sr --s 1e-3").is_ok());
    }
}
