//! Networks for ImageNet equal torchvision's, including the parameter names.
//! `tests/fixtures/imagenet.py` is the oracle.

use std::collections::{BTreeSet, HashMap};

use slim_runtime::{Prunable, Slimming, channels};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use slim_tests::fill;
use slim_zoo::densenet::{self, DenseNet};
use slim_zoo::googlenet;
use slim_zoo::resnet::{self, BasicBlock, Bottleneck, ResNet};
use slim_zoo::vgg_imagenet::{self, Vgg};
use tch::nn::{self, ModuleT, VarStore};

use crate::oracle::{assert_slims, filled, forward, parameters};
use slim_tests::fixture::Fixture;

/// Asserts that the full-size network has torchvision's names, shapes and function. The plan at 0.5
/// is a snapshot.
fn assert_is_torchvisions<M: ModuleT + Prunable>(name: &str, build: impl Fn(&nn::Path) -> M) {
    let oracle = Fixture::read(&format!("zoo/{name}"));
    let (net, vs) = filled(build);

    let state: BTreeSet<_> = vs
        .variables()
        .iter()
        .map(|(name, variable)| format!("{name} {:?}", variable.size()))
        .collect();
    assert_eq!(state, oracle.metadata["state"].lines().map(str::to_owned).collect());
    assert_eq!(parameters(&vs), oracle.get::<i64>("parameters"));

    let shape: Vec<_> =
        oracle.metadata["images"].split(' ').map(|size| size.parse().unwrap()).collect();
    assert_close(&forward(&net, &fill::images(&shape)), oracle.tensor("output"), rounding(&vs));

    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(plan.parameters().before, parameters(&vs), "every parameter is reached");
    insta::assert_snapshot!(name, plan);
}

#[test]
fn vgg16_bn() {
    assert_is_torchvisions("vgg16_bn", |p| vgg_imagenet::vgg16_bn(p, 1000));
    let cfg = channels![8, 8, M, 16, 16, M, 32, 32, 32, M, 64, 64, 64, M, 64, 64, 64, M];
    assert_slims(|p| Vgg::new(p, &cfg, 32, 10), 32);
}

#[test]
fn a_slim_vgg_is_built_again_from_its_cfg() {
    let cfg = channels![8, 8, M, 16, M];
    let vs = VarStore::new(device());
    let mut net = Vgg::new(vs.root(), &cfg, 32, 10);
    fill::fill(&vs);
    let slimmed = net.slim(0.5).unwrap();
    let again = VarStore::new(device());
    Vgg::new(again.root(), &slimmed.cfg(), 32, 10);
    let sizes = |vs: &VarStore| {
        vs.variables()
            .into_iter()
            .map(|(name, variable)| (name, variable.size()))
            .collect::<HashMap<_, _>>()
    };
    assert_eq!(sizes(&again), sizes(&vs));
}

#[test]
fn resnet18() {
    assert_is_torchvisions("resnet18", |p| resnet::resnet18(p, 1000));
    let narrow = resnet::Config { depths: [2, 2, 2, 2], width: 16, ..Default::default() };
    assert_slims(|p| ResNet::<BasicBlock>::new(p, &narrow, 10), 64);
}

#[test]
fn resnet50() {
    assert_is_torchvisions("resnet50", |p| resnet::resnet50(p, 1000));
    let narrow = resnet::Config { depths: [3, 4, 6, 3], width: 16, ..Default::default() };
    assert_slims(|p| ResNet::<Bottleneck>::new(p, &narrow, 10), 64);
}

#[test]
fn resnet152() {
    assert_is_torchvisions("resnet152", |p| resnet::resnet152(p, 1000));
    let narrow = resnet::Config { depths: [3, 8, 36, 3], width: 8, ..Default::default() };
    assert_slims(|p| ResNet::<Bottleneck>::new(p, &narrow, 10), 32);
}

#[test]
fn resnext50_32x4d() {
    assert_is_torchvisions("resnext50_32x4d", |p| resnet::resnext50_32x4d(p, 1000));
    let narrow = resnet::Config { depths: [3, 4, 6, 3], width: 16, groups: 8, group_width: 8 };
    assert_slims(|p| ResNet::<Bottleneck>::new(p, &narrow, 10), 64);
}

#[test]
fn densenet121() {
    assert_is_torchvisions("densenet121", |p| densenet::densenet121(p, 1000));
    let narrow = densenet::Config { depths: [6, 12, 24, 16], growth: 8, stem: 16 };
    assert_slims(|p| DenseNet::new(p, &narrow, 10), 32);
}

#[test]
fn googlenet() {
    assert_is_torchvisions("googlenet", |p| googlenet::googlenet(p, 1000));
    assert_slims(|p| googlenet::googlenet(p, 10), 32);
}
