//! Benches of tracing, planning and surgery, by network. In the throughput that criterion reports,
//! elements are channels, and bytes are those of the parameters.

use std::process::exit;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use slim_bench::network::Network;
use slim_bench::subject::{RATIO, Subject};
use slim_bench::timing::timed;
use slim_runtime::Prunable;
use tch::Device;

fn surgery(criterion: &mut Criterion) {
    for &network in Network::value_variants() {
        if let Err(error) = bench(criterion, network) {
            eprintln!("{network}: {error:#}");
            exit(1);
        }
    }
}

fn bench(criterion: &mut Criterion, network: Network) -> Result<()> {
    let mut subject = Subject::new(network, Device::Cpu)?;
    let plan = subject.plan()?;
    let mut group = criterion.benchmark_group(network.to_string());
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let (bytes, elements) =
        (4 * plan.parameters().before.unsigned_abs(), plan.channels().before.unsigned_abs());
    group.throughput(Throughput::ElementsAndBytes { elements, bytes });
    measure(&mut group, "dependencies", &mut subject, |subject| Ok(subject.net.dependencies()?))?;
    measure(&mut group, "plan", &mut subject, |subject| subject.plan())?;
    measure(&mut group, "apply", &mut subject, |subject| Ok(subject.net.apply(&plan)?))?;
    measure(&mut group, "slim", &mut subject, |subject| Ok(subject.net.slim(RATIO)?))?;
    group.finish();
    Ok(())
}

/// Measures `work` on a dense network, which is restored before the clock starts. The result is
/// dropped after the clock has stopped.
fn measure<T>(
    group: &mut BenchmarkGroup<WallTime>,
    what: &str,
    subject: &mut Subject,
    work: impl Fn(&mut Subject) -> Result<T>,
) -> Result<()> {
    let mut failed = None;
    group.bench_function(what, |bencher| {
        bencher.iter_custom(|times| {
            let mut once = || {
                subject.restore();
                timed(Device::Cpu, || work(subject)).map(|(_, seconds)| seconds)
            };
            let total = (0..times).map(|_| once()).sum::<Result<f64>>();
            // criterion takes no error, and no time of zero.
            Duration::from_secs_f64(total.unwrap_or_else(|error| {
                failed = Some(error);
                1.
            }))
        });
    });
    failed.map_or(Ok(()), Err)
}

criterion_group!(benches, surgery);
criterion_main!(benches);
