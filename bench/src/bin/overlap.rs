//! Measures how much of the averaging of gradients hides behind `backward`.

use std::cell::RefCell;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Spec};
use slim_cli::program;
use slim_cli::terminal::say;
use slim_distributed::{Distributed, DistributedConfig, Reduce};
use slim_runtime::{Benchmark, Compared};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Starts processes that compute the gradients of a network, and average them over all processes:
/// not at all, after `backward`, and during it. Prints the times in turn, and what averaging adds.
#[derive(Parser)]
struct Cli {
    /// The network
    #[arg(long, default_value = "vgg")]
    network: Arch,
    /// The number of processes, each with one thread
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    processes: u16,
    /// Images of each process in a step
    #[arg(long, default_value_t = 8)]
    batch: i64,
    /// How often each way has its turn
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// Says that a process is one of several.
const RANK: &str = "RANK";

fn main() -> ExitCode {
    program::main(|| {
        let cli = Cli::parse();
        if std::env::var_os(RANK).is_some() { process(&cli) } else { start(&cli) }
    })
}

/// Starts this program as often as is asked for, as `torchrun` does.
fn start(cli: &Cli) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let started = (0..cli.processes).map(|rank| {
        Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(RANK, rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", cli.processes.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .spawn()
            .context("cannot start a process")
    });
    for mut process in started.collect::<Result<Vec<_>>>()? {
        ensure!(process.wait()?.success(), "a process has failed");
    }
    Ok(())
}

fn process(cli: &Cli) -> Result<()> {
    tch::set_num_threads(1);
    let dist = DistributedConfig::new().cpu(true).join()?;
    let spec = Spec::new(cli.network, None, None, Spec::CLASSES)?;
    let image = spec.image();
    let model = Model::new(spec, Device::Cpu)?;
    dist.broadcast(&model.vs)?;
    let images = Tensor::f_rand([&[cli.batch][..], &image].concat(), (Kind::Float, Device::Cpu))?;
    let labels = Tensor::f_zeros([cli.batch], (Kind::Int64, Device::Cpu))?;
    let loss = || model.net.forward_t(&images, true).cross_entropy_for_logits(&labels);
    let bytes: usize = model.vs.trainable_variables().iter().map(|tensor| 4 * tensor.numel()).sum();
    let buffer = Tensor::f_zeros([bytes as i64 / 4], (Kind::Float, Device::Cpu))?;

    // Its hooks do nothing in a `backward` that it did not prepare.
    let parallel = RefCell::new(dist.data_parallel(&model.vs)?);
    let compared = Benchmark::new()
        .warm_up(Duration::ZERO)
        .runs(cli.rounds)
        .in_turn()
        .timed_case("not averaged", || step(&dist, &model.vs, || Ok(loss().f_backward()?)))
        .timed_case("averaged behind backward", || {
            step(&dist, &model.vs, || {
                loss().f_backward()?;
                Ok(dist.average_gradients(&model.vs)?)
            })
        })
        .timed_case("averaged during backward", || {
            step(&dist, &model.vs, || {
                let mut parallel = parallel.borrow_mut();
                let loss = parallel.forward(loss)?;
                Ok(parallel.backward(&loss)?)
            })
        })
        .timed_case("the averaging alone", || {
            step(&dist, &model.vs, || {
                Ok(dist.all_reduce(std::slice::from_ref(&buffer), Reduce::Mean)?)
            })
        })
        .run()?;
    let times = parallel.borrow().times()?;
    if !dist.is_main() {
        return Ok(());
    }
    say(format_args!(
        "{}, {} processes of one thread, {} images each: {:.1} MB of gradients",
        cli.network,
        cli.processes,
        cli.batch,
        bytes as f64 / 1e6
    ));
    say(&compared);
    report(&compared);
    if let Some(times) = times {
        say(format_args!(
            "buckets: {}; from the first that is sent to the last that arrives {:.0} ms, of which {:.0} ms during backward ({:.0} ms)",
            times.buckets, times.communication, times.overlap, times.compute
        ));
    }
    Ok(())
}

/// The time of a step, from when all processes begin until all have ended.
fn step(
    dist: &Distributed,
    vs: &VarStore,
    run: impl FnOnce() -> Result<()>,
) -> slim_runtime::Result<Duration> {
    for mut variable in vs.trainable_variables() {
        variable.zero_grad();
    }
    dist.barrier().map_err(custom)?;
    let begun = Instant::now();
    // A benchmark runs without gradients.
    tch::with_grad(run).map_err(|error| slim_runtime::Error::Custom(format!("{error:#}")))?;
    dist.barrier().map_err(custom)?;
    Ok(begun.elapsed())
}

fn custom(error: slim_distributed::Error) -> slim_runtime::Error {
    slim_runtime::Error::Custom(error.to_string())
}

/// What averaging adds to a step.
fn report(compared: &Compared) {
    let median = |name| compared.case(name).map_or(f64::NAN, |case| case.seconds.median * 1e3);
    let none = median("not averaged");
    let [behind, during] =
        ["averaged behind backward", "averaged during backward"].map(|name| median(name) - none);
    say(format_args!(
        "averaging adds {behind:.0} ms behind backward and {during:.0} ms during it: {:.0} % is hidden",
        100. * (1. - during / behind)
    ));
}
