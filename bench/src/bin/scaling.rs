//! Measures the cost of slimming in time and memory, by parameter and by channel.

use std::cell::RefCell;
use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use slim_bench::memory::peak;
use slim_bench::network::Network;
use slim_bench::subject::{RATIO, Subject};
use slim_bench::timing::{in_turn, median, passes, timed};
use slim_cli::numbers::grouped;
use slim_cli::program;
use slim_cli::terminal::{self, say};
use slim_runtime::{LayerPlan, Plan, Prunable};
use tch::Device;

/// Prints what slimming by half costs, from VGG-11 to a million channels: milliseconds, nanoseconds
/// per parameter and per channel, and the most memory that surgery takes beside the network,
/// against what stays and the largest tensor.
///
/// Cost that grows linearly is about the same in every row, but for small networks, where there is
/// something to do for each layer.
#[derive(Parser)]
struct Cli {
    /// Only these networks, with commas between them
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    networks: Vec<Network>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Threads of libtorch [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
    /// Print the peak of memory of surgery on this network, in bytes, and nothing else
    #[arg(long, value_name = "NETWORK", hide = true)]
    peak: Option<Network>,
}

fn main() -> ExitCode {
    program::main(|| run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<()> {
    cli.threads.into_iter().for_each(tch::set_num_threads);
    if let Some(network) = cli.peak {
        say(surgery_peak(network)?);
        return Ok(());
    }
    let networks = if cli.networks.is_empty() { Network::value_variants() } else { &cli.networks };
    let header = [
        "network",
        "parameters",
        "channels",
        "dependencies",
        "plan",
        "apply",
        "slim",
        "a parameter",
        "a channel",
        "peak",
        "bound",
    ];
    let mut table = terminal::table(header);
    for &network in networks {
        eprintln!("{network}");
        table.add_row(row(network, cli.rounds.into())?);
    }
    say(table);
    say(format_args!(
        "\nmedians of {} rounds, {} threads; plan and apply read the wiring, too",
        cli.rounds,
        tch::get_num_threads()
    ));
    say(
        "peak: memory of surgery beside the dense network; bound: the tensors that it makes, and the largest tensor that there was",
    );
    Ok(())
}

fn row(network: Network, rounds: usize) -> Result<Vec<String>> {
    let mut subject = Subject::new(network, Device::Cpu)?;
    let plan = subject.plan()?;
    // The four contenders share one network.
    let cell = RefCell::new(&mut subject);
    let dependencies = || {
        cell.borrow_mut().restore();
        seconds(|| Ok(cell.borrow().net.dependencies()?))
    };
    let planning = || {
        cell.borrow_mut().restore();
        seconds(|| cell.borrow().plan())
    };
    let apply = || {
        cell.borrow_mut().restore();
        seconds(|| Ok(cell.borrow_mut().net.apply(&plan)?))
    };
    let slim = || {
        cell.borrow_mut().restore();
        seconds(|| Ok(cell.borrow_mut().net.slim(RATIO)?))
    };
    cell.borrow_mut().restore();
    let turns =
        in_turn(rounds, vec![passes(dependencies), passes(planning), passes(apply), passes(slim)])?;
    let [dependencies, planning, apply, slim] = [0, 1, 2, 3].map(|index| median(&turns[index]));
    let (parameters, channels) = (plan.parameters().before, plan.channels().before);
    let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
    let ns = |count: i64| format!("{:.2} ns", slim * 1e9 / count as f64);
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    Ok(vec![
        network.to_string(),
        grouped(parameters),
        grouped(channels),
        ms(dependencies),
        ms(planning),
        ms(apply),
        ms(slim),
        ns(parameters),
        ns(channels),
        mb(peak_of(network)?),
        mb(bound(&plan)),
    ])
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    Ok(timed(Device::Cpu, work)?.1)
}

/// The bytes of the tensors that surgery makes, plus those of the largest tensor before it.
fn bound(plan: &Plan) -> u64 {
    let bytes = |shape: Vec<i64>| 4 * shape.iter().product::<i64>().unsigned_abs();
    let tensors = |layer: &LayerPlan| {
        let each = layer.tensors.iter().filter(|tensor| tensor.tied.is_none());
        each.map(|tensor| (layer.shape_before(tensor), layer.shape_after(tensor)))
            .collect::<Vec<_>>()
    };
    let shapes: Vec<_> = plan.layers().iter().flat_map(tensors).collect();
    let made = shapes
        .iter()
        .filter(|(before, after)| before != after)
        .map(|(_, after)| bytes(after.clone()))
        .sum::<u64>();
    made + shapes.into_iter().map(|(before, _)| bytes(before)).max().unwrap_or(0)
}

/// The peak memory of surgery in bytes, measured in a process of its own, as [`peak`] requires.
fn peak_of(network: Network) -> Result<u64> {
    let mut command = Command::new(env::current_exe()?);
    command.args([
        "--peak",
        &network.to_string(),
        "--threads",
        &tch::get_num_threads().to_string(),
    ]);
    let done = command.env("MALLOC_MMAP_THRESHOLD_", "65536").output()?;
    ensure!(
        done.status.success(),
        "the peak of {network}: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    let text = String::from_utf8_lossy(&done.stdout);
    text.trim().parse().with_context(|| format!("the peak of {network}: {text:?} is no number"))
}

fn surgery_peak(network: Network) -> Result<u64> {
    // The first surgery of a process loads code of libtorch into memory, which is not to be
    // counted.
    Subject::new(Network::Vgg11, Device::Cpu)?.net.slim(RATIO)?;
    let mut subject = Subject::new(network, Device::Cpu)?;
    let plan = subject.plan()?;
    Ok(peak(|| Ok(subject.net.apply(&plan)?))?.1)
}
