//! Networks for ImageNet equal torchvision's, including the parameter names.
//! `tests/fixtures/imagenet.py` is the oracle.

use std::collections::HashMap;

use slim_runtime::{Prunable, Slimming, channels, criterion};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use slim_tests::fill;
use slim_zoo::convnext::ConvNeXt;
use slim_zoo::densenet::{self, DenseNet};
use slim_zoo::efficientnet::EfficientNet;
use slim_zoo::googlenet;
use slim_zoo::inception_v3::inception_v3;
use slim_zoo::regnet::RegNet;
use slim_zoo::resnet::{self, BasicBlock, Bottleneck, ResNet};
use slim_zoo::squeezenet::SqueezeNet;
use slim_zoo::vgg_imagenet::{self, Vgg};
use slim_zoo::vision_transformer::{self, VisionTransformer};
use tch::nn::{self, ModuleT, VarStore};

use crate::oracle::{assert_slims, assert_slims_by, filled, forward, parameters, state};
use slim_tests::fixture::Fixture;

/// Asserts that the full-size network has torchvision's names, shapes and function. The plan at 0.5
/// is a snapshot.
fn assert_is_torchvisions<M: ModuleT + Prunable>(name: &str, build: impl Fn(&nn::Path) -> M) {
    assert_is_torchvisions_by(name, build, &Slimming::ratio(0.5));
}

fn assert_is_torchvisions_by<M: ModuleT + Prunable>(
    name: &str,
    build: impl Fn(&nn::Path) -> M,
    slimming: &Slimming,
) {
    let oracle = Fixture::read(&format!("zoo/{name}"));
    let (net, vs) = filled(build);

    assert_eq!(state(&vs), oracle.metadata["state"].lines().map(str::to_owned).collect());
    assert_eq!(parameters(&vs), oracle.get::<i64>("parameters"));

    let shape: Vec<_> =
        oracle.metadata["images"].split(' ').map(|size| size.parse().unwrap()).collect();
    assert_close(&forward(&net, &fill::images(&shape)), oracle.tensor("output"), rounding(&vs));

    let plan = net.plan(slimming).unwrap();
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

#[test]
fn efficientnet_b0() {
    assert_is_torchvisions("efficientnet_b0", |p| EfficientNet::b0(p, 1000));
    assert_slims(|p| EfficientNet::b0(p, 10), 32);
}

#[test]
fn regnet_y_400mf() {
    assert_is_torchvisions("regnet_y_400mf", |p| RegNet::y_400mf(p, 1000));
    assert_slims(|p| RegNet::y_400mf(p, 10), 32);
}

/// Each layer loses the same share of its channels, by their weights.
fn by_weights(slimming: Slimming) -> Slimming {
    slimming.criterion(criterion::L2).local()
}

#[test]
fn squeezenet1_1() {
    let half = by_weights(Slimming::ratio(0.5));
    assert_is_torchvisions_by("squeezenet1_1", |p| SqueezeNet::v1_1(p, 1000), &half);
    assert_slims_by(|p| SqueezeNet::v1_1(p, 10), 48, by_weights);
}

#[test]
fn convnext_tiny() {
    let half = by_weights(Slimming::ratio(0.5));
    assert_is_torchvisions_by("convnext_tiny", |p| ConvNeXt::tiny(p, 1000), &half);
    let narrow = [(3, 12), (3, 24), (9, 48), (3, 96)];
    assert_slims_by(|p| ConvNeXt::new(p, &narrow, 10), 64, by_weights);
}

#[test]
fn vit_b_16() {
    let half = by_weights(Slimming::ratio(0.5));
    let build = |p: &nn::Path| vision_transformer::vit_b_16(p, 1000);
    assert_is_torchvisions_by("vit_b_16", build, &half);
    let narrow = vision_transformer::Config { patch: 32, layers: 3, heads: 6, hidden: 48, mlp: 96 };
    assert_slims_by(|p| VisionTransformer::new(p, &narrow, 10), 224, by_weights);
}

#[test]
fn inception_v3_is_torchvisions() {
    assert_is_torchvisions("inception_v3", |p| inception_v3(p, 1000));
    assert_slims(|p| inception_v3(p, 10), 80);
}
