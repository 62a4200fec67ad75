//! Absorption into zero-padded convolutions: the interior of the output is exact, and the error at
//! the border is within the stated bound.

use slim_runtime::model;
use tch::Tensor;
use tch::nn::VarStore;

use super::{build, half, lines, outputs, zero_scales};
use slim_runtime::Prunable;

model! {
    #[derive(Debug)]
    struct Padded {
        conv1 = conv2d(3 => 12, kernel = 3, padding = 1);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 4, kernel = 3, padding = 1);
    }
}

model! {
    #[derive(Debug)]
    struct Transposed {
        conv1 = conv2d(3 => 12, kernel = 3, padding = 1);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv_transpose2d(12 => 4, kernel = 3);
    }
}

/// Crops `border` positions on each side of the images.
fn interior(xs: &Tensor, border: i64) -> Tensor {
    let side = xs.size()[2] - 2 * border;
    xs.narrow(2, border, side).narrow(3, border, side)
}

fn largest(xs: &Tensor) -> f64 {
    xs.abs().max().double_value(&[])
}

#[test]
fn the_interior_of_a_padded_convolution_is_exact_and_its_border_as_stated() {
    let new = |vs: &VarStore| Padded::new(vs.root());
    let outputs = outputs(new, half(), &[2, 3, 8, 8]);
    insta::assert_snapshot!(lines(&outputs.slimmed), @"`conv2`: 3 channels into `conv2.bias`, exact but at the padded border");
    let error = &outputs.absorbed - &outputs.dense;
    assert!(largest(&interior(&error, 1)) < 1e-12);
    assert!(largest(&interior(&(&outputs.dropped - &outputs.dense), 1)) > 1e-3);

    // The bound: Σ |act(β)| · Σ |w|, where the second sum is over the kernel's weights that lie on
    // the padding: five at a corner, three at an edge.
    let (net, vs) = build(new);
    let plan = net.plan(&half()).unwrap();
    zero_scales(&vs, &plan);
    let zero = net.bn1.ws.as_ref().unwrap().eq(0.);
    let sent = (net.bn1.bs.as_ref().unwrap().relu() * zero).view([1, -1, 1, 1]);
    let on_padding = |weights: &[(i64, i64)]| -> Tensor {
        let sums = weights.iter().map(|&(y, x)| net.conv2.ws.select(3, x).select(2, y).abs());
        sums.fold(Tensor::from(0.), |sum, weight| sum + weight)
    };
    let bound = |weights: &[(i64, i64)]| {
        (on_padding(weights) * sent.view([1, -1])).sum_dim_intlist(1, false, None)
    };
    let corner = error.select(3, 0).select(2, 0).abs().amax(0, false);
    let edge = error.select(3, 3).select(2, 0).abs().amax(0, false);
    let [corner_bound, edge_bound] =
        [&[(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)][..], &[(0, 0), (0, 1), (0, 2)]].map(bound);
    assert!(bool::try_from(corner.le_tensor(&(corner_bound + 1e-12)).all()).unwrap());
    assert!(bool::try_from(edge.le_tensor(&(edge_bound + 1e-12)).all()).unwrap());
    assert!(largest(&corner) > 1e-3, "there is a border error to bound");
}

#[test]
fn the_interior_of_a_transposed_convolution_is_exact() {
    let outputs = outputs(|vs| Transposed::new(vs.root()), half(), &[2, 3, 8, 8]);
    insta::assert_snapshot!(lines(&outputs.slimmed), @"`conv2`: 3 channels into `conv2.bias`, exact but at the padded border");
    let error = &outputs.absorbed - &outputs.dense;
    assert!(largest(&interior(&error, 2)) < 1e-12);
    assert!(largest(&error) > 1e-3);
}
