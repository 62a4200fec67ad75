//! Memory of a process that serves: a program of its own, since memory is that of the process.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{config, forward, images, network};

/// Resident memory of this process, in bytes; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[test]
fn memory_is_steady_over_runs_and_over_shapes_that_go() {
    // On busy cores, runs of microseconds would take milliseconds: threads wait for each other.
    tch::set_num_threads(1);
    ten_thousand_runs();
    shapes_that_go();
}

fn ten_thousand_runs() {
    let net = network();
    let input = images(&[4, 3, 32, 32], 0);
    let runner = config().runner(&net, &input, forward).unwrap();
    let serve = |runs: usize| (0..runs).for_each(|_| drop(runner.run(&input).unwrap()));
    serve(500);
    let Some(before) = resident() else { return };
    serve(10_000);
    // One leaked output of the first layer per run would be 160 MB.
    let grown = resident().unwrap().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

fn shapes_that_go() {
    let net = network();
    let runner = config().shapes(1).runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    let serve = |from: i64, to: i64| {
        for batch in from..to {
            drop(runner.run(&images(&[batch, 3, 8, 8], 0)).unwrap());
        }
    };
    serve(2, 42);
    let Some(before) = resident() else { return };
    serve(42, 142);
    let grown = resident().unwrap().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more after 100 shapes");
}
