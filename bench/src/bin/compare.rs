//! Compares slim with PyTorch and Torch-Pruning. `cargo xtask bench` installs the packages that
//! this program needs, and runs it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use slim_bench::comparison::{self, Options, Part};
use slim_bench::network::Network;
use slim_cli::device::{DeviceOptions, from_env};
use slim_cli::program;
use slim_cli::terminal::say;

/// Runs slim, PyTorch and Torch-Pruning in turn on the same weights, threads and inputs, and prints
/// a table of ratios.
///
/// Where both are to leave or compute the same and do not, that is an error that names the layer. A
/// target that is missed is none.
#[derive(Parser)]
struct Cli {
    /// Python with torch, torchvision, torch-pruning, safetensors and numpy
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Write all that was measured to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these parts, with commas between them
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these networks, with commas between them
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    networks: Vec<Network>,
    /// How often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where both sides compute: cpu, cuda, cuda:1 [default: SLIM_DEVICE, or the CPU]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Threads of both sides [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
}

fn main() -> ExitCode {
    program::main(|| run(Cli::parse()))
}

fn run(cli: Cli) -> Result<()> {
    let cores =
        available_parallelism().ok().and_then(|cores| i32::try_from(cores.get()).ok()).unwrap_or(1);
    let threads = cli.threads.unwrap_or(cores);
    let no_cuda = cli.device.is_none() && from_env()?.is_none();
    let device = DeviceOptions { device: cli.device, no_cuda, threads: Some(threads) }.set_up()?;
    let options = Options {
        python: cli.python,
        device,
        threads,
        rounds: cli.rounds.into(),
        parts: chosen(cli.only),
        networks: chosen(cli.networks),
    };
    let report = comparison::run(&options, |at_work| eprintln!("{at_work}"))?;
    say(&report);
    if let Some(path) = cli.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(&path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The named values, or all values if none is named.
fn chosen<T: ValueEnum>(named: Vec<T>) -> Vec<T> {
    if named.is_empty() { T::value_variants().iter().map(T::clone).collect() } else { named }
}
