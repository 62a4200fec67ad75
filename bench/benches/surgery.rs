//! Tracing, planning and surgery, by network: criterion reports them per parameter, and per channel.

use std::time::Duration;

use clap::ValueEnum;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use slim_bench::network::Network;
use slim_bench::subject::{RATIO, Subject};
use slim_bench::timing::timed;
use slim_runtime::Prunable;
use tch::Device;

/// What cannot fail here is not worth a number.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn surgery(criterion: &mut Criterion) {
    for &network in Network::value_variants() {
        if let Err(error) = bench(criterion, network) {
            eprintln!("{network}: {error}");
            std::process::exit(1);
        }
    }
}

fn bench(criterion: &mut Criterion, network: Network) -> Result<()> {
    let mut subject = Subject::new(network, Device::Cpu)?;
    let plan = subject.plan()?;
    let mut group = criterion.benchmark_group(network.to_string());
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (unit, count) in [("parameters", plan.parameters().before), ("channels", plan.channels().before)] {
        group.throughput(Throughput::Elements(count.unsigned_abs()));
        // With nothing to train, the sparsity step only traces.
        subject.vs.freeze();
        measure(&mut group, "trace", unit, &mut subject, |subject| Ok(subject.net.add_l1_subgradient(0.)?));
        subject.vs.unfreeze();
        measure(&mut group, "plan", unit, &mut subject, |subject| Ok(subject.plan()?));
        measure(&mut group, "apply", unit, &mut subject, |subject| Ok(subject.net.apply(&plan)?));
        measure(&mut group, "slim", unit, &mut subject, |subject| Ok(subject.net.slim(RATIO)?));
    }
    group.finish();
    Ok(())
}

/// Of a dense network every time, which is made before the clock runs; what comes out is dropped after it has stopped.
fn measure<T>(
    group: &mut BenchmarkGroup<WallTime>,
    what: &str,
    unit: &str,
    subject: &mut Subject,
    work: impl Fn(&mut Subject) -> anyhow::Result<T>,
) {
    group.bench_function(BenchmarkId::new(what, unit), |bencher| {
        bencher.iter_custom(|times| {
            let once = |_| {
                subject.restore();
                timed(Device::Cpu, || work(subject)).map_or(f64::NAN, |(_, seconds)| seconds)
            };
            Duration::from_secs_f64((0..times).map(once).sum())
        });
    });
}

criterion_group!(benches, surgery);
criterion_main!(benches);
