//! A residual network with planted scores, and a measure whose best ratios are known.

use slim_runtime::model;
use slim_runtime::nn::BatchNorm;
use slim_tests::device;
use slim_tests::fill::fill;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Widths: the residual stream, inside the block, behind it.
pub const WIDTHS: [usize; 3] = [8, 12, 20];

model! {
    /// A stream of 8 channels that two convolutions make, and 12 and 20 others.
    #[derive(Debug)]
    pub struct Planted {
        conv0 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn0 = batch_norm(8);
        a = relu;
        conv1 = conv2d(8 => 12, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 8, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(8);
        bn2 + a;
        relu;
        conv3 = conv2d(8 => 20, kernel = 3, padding = 1, bias = false);
        bn3 = batch_norm(20);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(20 => 5);
    }
}

/// γ of `[bn0, bn1, bn2, bn3]`: in each layer all different, and nowhere in order.
pub fn scales() -> [Vec<f64>; 4] {
    let of = |count: usize, step: usize, shift: f64| -> Vec<f64> {
        (0..count).map(|channel| 0.05 + shift + (channel * step % count) as f64 / 16.).collect()
    };
    [of(8, 3, 0.01), of(12, 5, 0.02), of(8, 5, 0.03), of(20, 7, 0.04)]
}

pub fn planted() -> (Planted, VarStore) {
    let vs = VarStore::new(device());
    let net = Planted::new(vs.root());
    fill(&vs);
    let _no_grad = tch::no_grad_guard();
    for (norm, scales) in norms(&net).into_iter().zip(scales()) {
        norm.ws.as_ref().unwrap().shallow_clone().copy_(&Tensor::from_slice(&scales));
    }
    (net, vs)
}

fn norms(net: &Planted) -> [&BatchNorm; 4] {
    [&net.bn0, &net.bn1, &net.bn2, &net.bn3]
}

/// What a unit of γ is worth in each batch norm. The global ranking takes them to be equal.
const WORTH: [f64; 4] = [1., 10., 1., 0.2];

/// The value of a network: the sum of what is left of γ, each times what it is worth.
pub fn value(net: &Planted) -> f64 {
    let left = |norm: &BatchNorm| norm.ws.as_ref().unwrap().sum(Kind::Double).double_value(&[]);
    norms(net).into_iter().zip(WORTH).map(|(norm, worth)| worth * left(norm)).sum()
}

/// The value and the parameters of the network without the least important channels. `removed` is
/// their number in the stream, inside the block, and behind it. By arithmetic alone.
pub fn expected(removed: [usize; 3]) -> (f64, usize) {
    let [g0, g1, g2, g3] = scales();
    let left = |scores: Vec<f64>, values: &[f64], removed: usize| -> f64 {
        let mut order: Vec<_> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        order[removed..].iter().map(|&channel| values[channel]).sum()
    };
    let stream: Vec<_> = g0.iter().zip(&g2).map(|(a, b)| a.max(*b)).collect();
    let value = WORTH[0] * left(stream.clone(), &g0, removed[0])
        + WORTH[1] * left(g1.clone(), &g1, removed[1])
        + WORTH[2] * left(stream, &g2, removed[0])
        + WORTH[3] * left(g3.clone(), &g3, removed[2]);
    let [stream, inside, behind] = [0, 1, 2].map(|group| WIDTHS[group] - removed[group]);
    let convolutions = 9 * (3 * stream + 2 * stream * inside + stream * behind);
    let norms = 2 * (2 * stream + inside + behind);
    (value, convolutions + norms + 5 * behind + 5)
}

/// All possible numbers of removed channels.
pub fn all() -> impl Iterator<Item = [usize; 3]> {
    let [stream, inside, behind] = WIDTHS;
    (0..stream)
        .flat_map(move |a| (0..inside).flat_map(move |b| (0..behind).map(move |c| [a, b, c])))
}
