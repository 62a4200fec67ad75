//! The mobile networks equal torchvision's, and the U-Net equals the oracle's.
//! `tests/fixtures/mobile.py` is the oracle.

use std::collections::BTreeSet;

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::check::{assert_close, rounding};
use slim_tests::fill::images;
use slim_zoo::mobilenet_v2::MobileNetV2;
use slim_zoo::mobilenet_v3::MobileNetV3;
use slim_zoo::shufflenet_v2::ShuffleNetV2;
use slim_zoo::unet::UNet;
use tch::nn::{self, ModuleT};

use crate::oracle::{assert_slims, filled, forward, parameters, state};
use slim_tests::fixture::Fixture;

fn mobilenet_v2(p: &nn::Path) -> MobileNetV2 {
    MobileNetV2::new(p, 1000)
}

fn mobilenet_v3_large(p: &nn::Path) -> MobileNetV3 {
    MobileNetV3::large(p, 1000)
}

fn shufflenet_v2_x1_0(p: &nn::Path) -> ShuffleNetV2 {
    ShuffleNetV2::x1_0(p, 1000)
}

fn unet(p: &nn::Path) -> UNet {
    UNet::new(p, 8, 2)
}

/// Asserts the same names and shapes, number of parameters, and function.
fn assert_pytorchs<M: ModuleT + Prunable>(name: &str, build: impl Fn(&nn::Path) -> M) {
    let fixture = Fixture::read(&format!("zoo/{name}"));
    let (net, vs) = filled(build);
    let ours = state(&vs);
    let theirs: BTreeSet<String> =
        fixture.metadata["variables"].lines().map(str::to_owned).collect();
    assert_eq!(ours, theirs);
    assert_eq!(parameters(&vs), fixture.get::<i64>("parameters"));
    assert_eq!(plan(&net, 0.).parameters().before, fixture.get::<i64>("parameters"));
    assert_close(&forward(&net, &images(&[2, 3, 64, 64])), fixture.tensor("output"), rounding(&vs));
}

fn plan(net: &impl Prunable, ratio: f64) -> Plan {
    net.plan(&Slimming::ratio(ratio)).unwrap()
}

#[test]
fn mobilenet_v2_is_torchvisions() {
    assert_pytorchs("mobilenet_v2", mobilenet_v2);
}

#[test]
fn mobilenet_v3_is_torchvisions() {
    assert_pytorchs("mobilenet_v3_large", mobilenet_v3_large);
}

#[test]
fn shufflenet_v2_is_torchvisions() {
    assert_pytorchs("shufflenet_v2_x1_0", shufflenet_v2_x1_0);
}

#[test]
fn the_unet_is_pytorchs() {
    assert_pytorchs("unet", unet);
}

#[test]
fn a_slimmed_mobilenet_v2_is_the_masked_one() {
    assert_slims(mobilenet_v2, 64);
}

#[test]
fn a_slimmed_mobilenet_v3_is_the_masked_one() {
    assert_slims(mobilenet_v3_large, 64);
}

#[test]
fn a_slimmed_shufflenet_v2_is_the_masked_one() {
    assert_slims(shufflenet_v2_x1_0, 64);
}

#[test]
fn a_slimmed_unet_is_the_masked_one() {
    assert_slims(unet, 32);
}

#[test]
fn mobilenet_v2_at_half() {
    insta::assert_snapshot!(plan(&filled(mobilenet_v2).0, 0.5));
}

#[test]
fn mobilenet_v3_at_half() {
    insta::assert_snapshot!(plan(&filled(mobilenet_v3_large).0, 0.5));
}

#[test]
fn shufflenet_v2_at_half() {
    insta::assert_snapshot!(plan(&filled(shufflenet_v2_x1_0).0, 0.5));
}

/// The positions that stay of one axis of a layer.
fn kept(plan: &Plan, layer: &str, axis: &str) -> Vec<usize> {
    plan.layer(layer)
        .and_then(|layer| layer.axis(axis))
        .unwrap_or_else(|| panic!("no `{axis}` of `{layer}`"))
        .keep
        .iter()
        .collect()
}

#[test]
fn a_depthwise_convolution_and_a_gate_follow_what_they_filter() {
    let plan = plan(&filled(mobilenet_v3_large).0, 0.5);
    let block = "features.5.block";
    let filtered = kept(&plan, &format!("{block}.expand.norm"), "channels");
    assert!(filtered.len() < 120);
    for (layer, axis) in [
        ("depthwise.conv", "out"),
        ("squeeze_excitation.fc1", "in"),
        ("squeeze_excitation.fc2", "out"),
        ("project.conv", "in"),
    ] {
        assert_eq!(kept(&plan, &format!("{block}.{layer}"), axis), filtered, "{layer}");
    }
    // No γ ranks the channels between the two layers of the gate.
    assert_eq!(kept(&plan, &format!("{block}.squeeze_excitation.fc2"), "in").len(), 32);
}

#[test]
fn the_halves_of_a_shuffled_stream_are_not_tied() {
    let plan = plan(&filled(shufflenet_v2_x1_0).0, 0.5);
    let stream = kept(&plan, "stage3.1.split", "in");
    let (left, right): (Vec<usize>, Vec<usize>) =
        stream.into_iter().partition(|&channel| channel < 116);
    let right: Vec<usize> = right.into_iter().map(|channel| channel - 116).collect();
    assert_ne!(left, right);
    assert_eq!(kept(&plan, "stage3.1.branch2.0.conv", "in"), right);
    // The inner channels of each block are chosen separately.
    let widths: BTreeSet<_> =
        (1..8).map(|i| kept(&plan, &format!("stage3.{i}.branch2.2.norm"), "channels")).collect();
    assert_eq!(widths.len(), 7);
}

#[test]
fn a_skip_is_read_in_front_of_what_comes_from_below() {
    let plan = plan(&filled(unet).0, 0.5);
    for level in 1..=3 {
        let skip = kept(&plan, &format!("enc{level}.bn2"), "channels");
        let below = kept(&plan, &format!("up{level}.bn"), "channels");
        let width = plan.layer(&format!("up{level}.bn")).unwrap().axes[0].width;
        let both: Vec<_> =
            skip.into_iter().chain(below.into_iter().map(|channel| width + channel)).collect();
        assert_eq!(kept(&plan, &format!("dec{level}.conv1"), "in"), both);
    }
}

#[test]
fn unet_at_half() {
    insta::assert_snapshot!(plan(&filled(unet).0, 0.5));
}
