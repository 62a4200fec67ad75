//! Benches of the sparsity step by itself, and in a training step of VGG-19 at batch 64.

use std::process::exit;
use std::time::Duration;

use anyhow::Result;
use criterion::{Criterion, criterion_group, criterion_main};
use slim_bench::network::Network;
use slim_bench::subject::Subject;
use slim_runtime::Prunable;
use tch::nn::{ModuleT, Optimizer, OptimizerConfig, Sgd};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 64;
const FACTOR: f64 = 1e-4;

fn sparsity(criterion: &mut Criterion) {
    for network in [Network::Vgg19, Network::Resnet50, Network::Densenet121] {
        if let Err(error) = alone(criterion, network) {
            eprintln!("{network}: {error:#}");
            exit(1);
        }
    }
    if let Err(error) = training(criterion) {
        eprintln!("training: {error:#}");
        exit(1);
    }
}

fn alone(criterion: &mut Criterion, network: Network) -> Result<()> {
    let subject = Subject::new(network, Device::Cpu)?;
    let loss = subject
        .vs
        .trainable_variables()
        .iter()
        .fold(Tensor::zeros([1], (Kind::Float, Device::Cpu)), |sum, variable| {
            sum + variable.sum(Kind::Float)
        });
    loss.backward();
    subject.net.add_l1_subgradient(FACTOR)?;
    criterion.bench_function(&format!("sparsity/{network}"), |bencher| {
        bencher.iter(|| subject.net.add_l1_subgradient(FACTOR));
    });
    Ok(())
}

/// A training step with and without the penalty. The difference is smaller than the noise of
/// either, so the first bench shows the cost of the penalty.
fn training(criterion: &mut Criterion) -> Result<()> {
    let subject = Subject::new(Network::Vgg19, Device::Cpu)?;
    let (images, labels) =
        (subject.images(BATCH), Tensor::randint(10, [BATCH], (Kind::Int64, Device::Cpu)));
    let mut optimizer =
        Sgd { momentum: 0.9, dampening: 0., wd: 1e-4, nesterov: false }.build(&subject.vs, 1e-3)?;
    let step = |optimizer: &mut Optimizer| {
        let loss = subject.net.forward_t(&images, true).cross_entropy_for_logits(&labels);
        optimizer.zero_grad();
        loss.backward();
    };
    let mut group = criterion.benchmark_group("training step of vgg19, 64 images");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(10));
    group.bench_function("without sparsity", |bencher| {
        bencher.iter(|| {
            step(&mut optimizer);
            optimizer.step();
        });
    });
    group.bench_function("with sparsity", |bencher| {
        bencher.iter(|| {
            step(&mut optimizer);
            let added = subject.net.add_l1_subgradient(FACTOR);
            optimizer.step();
            added
        });
    });
    Ok(())
}

criterion_group!(benches, sparsity);
criterion_main!(benches);
