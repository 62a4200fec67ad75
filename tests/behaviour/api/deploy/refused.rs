//! Networks that `deploy` refuses, and operations that a deployed network refuses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Dense, Device, Error, Kind, ModuleT, Prunable, Result, Slimming, Tensor, VarStore, assert_same,
    built, deploy, deployed, forward, nn, own, recalibrate, values,
};
use crate::common::{self, images};
use slim_runtime::error::CheckError;

/// A chain with a ReLU in front of some batch norms that no field declares.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Chain {
    conv1: own::Conv2D,
    bn1: own::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: own::Conv2D,
    bn3: own::BatchNorm,
    conv4: own::Conv2D,
    bn4: own::BatchNorm,
    #[prune(skip)]
    between: Vec<usize>,
}

impl Chain {
    fn new(p: &nn::Path, between: &[usize]) -> Self {
        let conv = |name: &str, inputs| own::conv2d(p / name, inputs, 8, 3, Default::default());
        let norm = |name: &str| own::batch_norm2d(p / name, 8, Default::default());
        Chain {
            conv1: conv("conv1", 3),
            bn1: norm("bn1"),
            conv2: nn::conv2d(p / "conv2", 8, 8, 3, Default::default()),
            bn2: nn::batch_norm2d(p / "bn2", 8, Default::default()),
            conv3: conv("conv3", 8),
            bn3: norm("bn3"),
            conv4: conv("conv4", 8),
            bn4: norm("bn4"),
            between: between.to_vec(),
        }
    }
}

impl ModuleT for Chain {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let between =
            |index: usize, xs: Tensor| if self.between.contains(&index) { xs.relu() } else { xs };
        let xs = between(1, xs.apply(&self.conv1)).apply_t(&self.bn1, train).relu();
        let xs = between(2, xs.apply(&self.conv2)).apply_t(&self.bn2, train).relu();
        let xs = between(3, xs.apply(&self.conv3)).apply_t(&self.bn3, train).relu();
        between(4, xs.apply(&self.conv4)).apply_t(&self.bn4, train)
    }
}

fn sample() -> Tensor {
    slim_tests::fill::images(&[2, 3, 12, 12])
}

fn refusal(between: &[usize]) -> String {
    let (mut net, vs) = built(|p| Chain::new(p, between));
    let (xs, before) = (sample(), values(&vs));
    let expected = forward(&net, &xs);
    let error = deploy(&mut net, &xs, |net, xs| net.forward_t(xs, false)).unwrap_err();
    // The values, the handles, the trainable variables and the outputs have not changed.
    assert_same(&values(&vs), &before);
    assert_eq!(forward(&net, &xs), expected);
    assert!(net.conv1.ws.requires_grad() && net.bn2.ws.as_ref().unwrap().requires_grad());
    assert_eq!(net.conv1.ws.data_ptr(), vs.variables()["conv1.weight"].data_ptr());
    net.plan(&Slimming::ratio(0.1)).unwrap();
    error.to_string()
}

/// Replaces numbers, since differences depend on the order of sums.
fn redacted(text: &str) -> String {
    let word = |word| match str::parse::<f64>(str::trim_end_matches(word, ',')) {
        Ok(_) => "#",
        Err(_) => word,
    };
    text.lines()
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn an_activation_between_is_found_and_its_pair_named() {
    deployed(&mut built(|p| Chain::new(p, &[])).0, &sample(), 1e-5);
    for wrong in 1..=4 {
        let error = refusal(&[wrong]);
        assert!(error.contains(&format!("with `bn{wrong}` in `conv{wrong}`: ")), "{error}");
        assert_eq!(error.matches("with `bn").count(), 1, "{error}");
    }
    insta::assert_snapshot!(redacted(&refusal(&[1, 3])));
}

#[test]
fn a_deployed_network_refuses_what_would_be_wrong() {
    let (mut net, _vs) = built(|p| Dense::new(p));
    let xs = sample();
    deployed(&mut net, &xs, 1e-5);
    let what: [(&str, Result<()>); 7] = [
        ("plan", net.plan(&Slimming::ratio(0.5)).map(|_| ())),
        ("slim", net.slim(0.5).map(|_| ())),
        ("scores", net.scores(&Slimming::ratio(0.5)).map(|_| ())),
        ("cost", net.cost(|net| net.forward_t(&xs, false)).map(|_| ())),
        ("add_l1_subgradient", net.add_l1_subgradient(1e-4)),
        (
            "recalibrate",
            recalibrate(&mut net, [xs.shallow_clone()], |net, xs| Ok(net.forward_t(&xs, true))),
        ),
        ("deploy", deploy(&mut net, &xs, |net, xs| net.forward_t(xs, false)).map(|_| ())),
    ];
    for (name, result) in what {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::Check(CheckError::Deployed { path }) if path == "bn1" || path == "conv1"),
            "{name}: {error}"
        );
    }
    let error = net.dependencies().unwrap_err().to_string().replace("conv1", "bn1");
    insta::assert_snapshot!(error, @"`bn1` has been deployed, and is for inference alone; build the network anew, load its weights, and do this before `deploy`");
    let panic = catch_unwind(AssertUnwindSafe(|| net.forward_t(&xs, true))).unwrap_err();
    let words = panic.downcast_ref::<&str>().unwrap();
    insta::assert_snapshot!(words, @"this batch norm was folded by `deploy`, so the network cannot be trained; run it with `train = false`");
}

/// tch's layers cannot record that they were deployed, so their network stays an ordinary one.
#[test]
fn a_network_of_tchs_layers_is_an_ordinary_one_that_is_deployed_again() {
    let (mut net, _vs) = built(common::Net::new);
    let xs = images(2);
    let expected = forward(&net, &xs);
    for _ in 0..2 {
        deployed(&mut net, &xs, 1e-5);
        slim_tests::check::assert_close(&forward(&net, &xs), &expected, 1e-5);
    }
    let scales: Vec<f32> = Vec::try_from(net.bn1.ws.as_ref().unwrap()).unwrap();
    assert_eq!(scales, [1.; 8]);
}

#[test]
fn outputs_that_show_nothing_are_refused() {
    let (mut net, vs) = built(common::Net::new);
    let before = values(&vs);
    let noisy = |output: &Tensor| output + output.randn_like();
    let mut said = Vec::new();
    let mut refuse = |error: Error| said.push(error.to_string());
    refuse(
        deploy(&mut net, &images(1), |net, xs| net.forward_t(xs, false).argmax(-1, false))
            .unwrap_err(),
    );
    refuse(deploy(&mut net, &images(1), |net, xs| net.forward_t(xs, false) * 0.).unwrap_err());
    refuse(deploy(&mut net, &images(1), |net, xs| net.forward_t(xs, false) / 0.).unwrap_err());
    refuse(deploy(&mut net, &images(1), |net, xs| noisy(&net.forward_t(xs, false))).unwrap_err());
    refuse(deploy(&mut net, &images(1), |net, xs| net.forward_t(xs, true)).unwrap_err());
    assert_same(&values(&vs), &before);
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_network_without_batch_norms_is_laid_out_all_the_same() {
    let vs = VarStore::new(Device::Cpu);
    let mut net = own::conv2d(vs.root(), 3, 16, 3, Default::default());
    let xs = Tensor::randn([1, 3, 9, 9], (Kind::Float, Device::Cpu));
    let deployed = deployed(&mut net, &xs, 1e-5);
    assert!(deployed.norms.is_empty());
    assert!(deployed.layouts.iter().all(|trial| trial.out.is_none()), "{deployed}");
}
