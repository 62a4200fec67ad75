//! Measures what methods of slimming are worth, on CIFAR-10, beside the reference procedure in
//! PyTorch.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use slim_bench::choosing::{Choice, Limits, ROWS, Results, Row, Runs, Setup};
use slim_cli::data::Name;
use slim_cli::options::Usage;
use slim_cli::program;
use slim_cli::terminal::say;

/// Train a small VGG and a ResNet-20 on CIFAR-10, slim them in several ways, repair and fine-tune
/// them; and run the reference procedure in PyTorch.
///
/// Rows that --results has are not measured again. A run that was stopped goes on with the row, and
/// in the epoch, where it was.
#[derive(Parser)]
#[command(name = "choosing")]
struct Options {
    /// Folder of CIFAR-10's binary version
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Folder for checkpoints
    #[arg(long, value_name = "DIR", default_value = "logs/choosing")]
    work: PathBuf,
    /// File of the results
    #[arg(long, value_name = "FILE", default_value = "bench/choosing.json")]
    results: PathBuf,
    /// Measure this row alone, such as `vgg/1`; may be given several times [default: all]
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Print the rows, and which of them are done, and measure nothing
    #[arg(long)]
    list: bool,
    /// Print the tables of the rows that are done, and measure nothing
    #[arg(long)]
    tables: bool,
    /// Number of threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// The Python with PyTorch
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: OsString,
    /// One epoch each time, on the digits that come with the project, without PyTorch, in a folder
    /// that is removed: to see that everything runs
    #[arg(long)]
    smoke: bool,
}

fn main() -> ExitCode {
    program::main(|| {
        let mut options = Options::parse();
        let folder = tempfile::tempdir()?;
        if options.smoke {
            options.work = folder.path().join("work");
            options.results = folder.path().join("results.json");
        }
        run(&options)
    })
}

fn run(options: &Options) -> Result<()> {
    let mut results = Results::read(&options.results)?;
    if options.list {
        for row in ROWS {
            let done =
                results.of(row).map_or(String::new(), |done| format!("{:.0} min", done.minutes));
            println!("{:<30} {done}", row.to_string());
        }
        return Ok(());
    }
    if options.tables {
        print!("{}", results.tables());
        return Ok(());
    }
    let named = |name: &String| {
        Row::named(name)
            .with_context(|| Usage(format!("no row `{name}`; --list prints all of them")))
    };
    let rows: Vec<Row> = match &options.only[..] {
        [] if options.smoke => smoke_rows(),
        [] => ROWS.to_vec(),
        names => names.iter().map(named).collect::<Result<_>>()?,
    };
    let missing: Vec<_> = rows.iter().filter(|row| results.of(row).is_none()).collect();
    if missing.is_empty() {
        print!("{}", results.tables());
        return Ok(());
    }
    let setup = Setup {
        dataset: if options.smoke { Name::Digits } else { Name::Cifar10 },
        data_dir: options.data_dir.clone(),
        work: options.work.clone(),
        python: options.python.clone(),
        script: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python/reference.py")),
        threads: options.threads,
        smoke: options.smoke,
    };
    let runs = Runs::new(setup)?;
    // Before hours of training, of which nothing could be kept.
    results.write(&options.results)?;
    for (index, row) in missing.iter().enumerate() {
        say(format_args!("row {} of {}: {row}", index + 1, missing.len()));
        let measured = runs.measure(row)?;
        results.add(row, measured, &options.results)?;
    }
    print!("{}", results.tables());
    Ok(())
}

/// One row of each kind that needs no PyTorch.
fn smoke_rows() -> Vec<Row> {
    let kind = |row: &Row| match row {
        Row::PyTorch { .. } => None,
        Row::Procedure { .. } => Some("procedure"),
        Row::Method { choice: Choice::Search(_), .. } => Some("search"),
        Row::Method { limits: Limits::Macs, .. } => Some("ranking"),
        Row::Method { limits: Limits::Latency, .. } => Some("latency"),
    };
    let mut kinds = HashSet::new();
    let is_new = |row: &&Row| kind(row).is_some_and(|kind| kinds.insert(kind));
    ROWS.iter().filter(is_new).copied().collect()
}
