//! Eight mistakes that a wiring by the order of fields accepts without an error.

use slim_runtime::Slimming;
use tch::Tensor;
use tch::nn;

use super::{bn, conv, images, left, linear, net, slimmed_is_masked};

/// Asserts slimmed = masked under a global ratio and under a local one.
macro_rules! right {
    ($name:ident) => {
        for slimming in [Slimming::ratio(0.5), Slimming::ratio(0.5).local()] {
            slimmed_is_masked($name::new, &slimming, &images());
        }
    };
}

#[test]
fn fields_in_another_order_than_forward_uses_them() {
    net! { Net {
        fc: nn::Linear = |p| linear(p, 8, 4),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let xs = xs.apply(&net.conv2).apply_t(&net.bn2, train).relu();
        xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    } }
    right!(Net);
}

#[test]
fn two_batch_norms_swapped() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn2, train).relu();
        xs.apply(&net.conv2).apply_t(&net.bn1, train).relu().apply(&net.conv3)
    } }
    right!(Net);
}

#[test]
fn a_residual_that_no_attribute_says() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let ys = xs.apply(&net.conv2).apply_t(&net.bn2, train);
        (ys + xs).relu().apply(&net.conv3)
    } }
    right!(Net);
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "bn1"), left(&plan, "bn2"));
}

#[test]
fn a_sigmoid() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).sigmoid();
        xs.apply(&net.conv2).apply_t(&net.bn2, train).relu().apply(&net.conv3)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    // A sigmoid of zero is one half, which the next layer would miss.
    assert_eq!((left(&plan, "bn1"), left(&plan, "bn2")), (8, 3));
}

#[test]
fn a_concatenation_the_other_way_round() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 6),
        bn1: nn::BatchNorm = |p| bn(p, 6),
        conv2: nn::Conv2D = |p| conv(p, 6, 10),
        bn2: nn::BatchNorm = |p| bn(p, 10),
        conv3: nn::Conv2D = |p| conv(p, 16, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let ys = xs.apply(&net.conv2).apply_t(&net.bn2, train).relu();
        Tensor::cat(&[ys, xs], 1).apply(&net.conv3)
    } }
    right!(Net);
}

#[test]
fn a_flatten_position_by_position() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        fc: nn::Linear = |p| linear(p, 8 * 64, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        xs.permute([0, 2, 3, 1]).flatten(1, -1).apply(&net.fc)
    } }
    right!(Net);
}

#[test]
fn a_field_that_is_never_used() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        spare: nn::Conv2D = |p| conv(p, 8, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| xs.apply(&net.conv1).apply_t(&net.bn1, train).relu().apply(&net.conv2) }
    let text = super::refusal(Net::new);
    assert_eq!(
        text,
        "`model`: its `forward` never applies `spare`; apply it, or write `#[prune(skip)]` on the field if it is not part of the network"
    );
}

#[test]
fn a_layer_applied_twice() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let mut xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        for _ in 0..2 {
            xs = xs.apply(&net.conv2).apply_t(&net.bn2, train).relu();
        }
        xs.apply(&net.conv3)
    } }
    right!(Net);
}
