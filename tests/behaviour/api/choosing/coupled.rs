//! Criteria that look beyond one layer, compared with their formulas on networks whose channels are
//! coupled by sums, concatenations and groups.

use std::collections::HashMap;

use slim_runtime::criterion::{GroupTaylor, ScaledNorm, Taylor};
use slim_runtime::{Coupling, Plan, Prunable, Slimming, forward, nn};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ConvConfig, ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

/// A residual stream of two convolutions, a depthwise and a grouped convolution, a concatenation,
/// and a batch norm behind each.
#[derive(Debug, Prunable)]
pub(super) struct Coupled {
    pub(super) stem: nn::Conv2D,
    pub(super) bn_stem: nn::BatchNorm,
    pub(super) inner: nn::Conv2D,
    pub(super) bn_inner: nn::BatchNorm,
    pub(super) outer: nn::Conv2D,
    pub(super) bn_sum: nn::BatchNorm,
    pub(super) depthwise: nn::Conv2D,
    pub(super) bn_depthwise: nn::BatchNorm,
    pub(super) grouped: nn::Conv2D,
    pub(super) up: nn::ConvTranspose2D,
    pub(super) bn_cat: nn::BatchNorm,
    pub(super) fc: nn::Linear,
}

impl Coupled {
    fn new(p: &Path) -> Self {
        let conv = |name: &str, inputs, outputs, side, groups| {
            let config = ConvConfig { padding: side / 2, groups, ..Default::default() };
            nn::conv2d(p / name, inputs, outputs, side, config)
        };
        let bn = |name: &str, width| nn::batch_norm2d(p / name, width, Default::default());
        let config = nn::ConvTransposeConfig { groups: 2, ..Default::default() };
        Coupled {
            stem: conv("stem", 3, 8, 3, 1),
            bn_stem: bn("bn_stem", 8),
            inner: conv("inner", 8, 6, 3, 1),
            bn_inner: bn("bn_inner", 6),
            outer: conv("outer", 6, 8, 1, 1),
            bn_sum: bn("bn_sum", 8),
            depthwise: conv("depthwise", 8, 8, 3, 8),
            bn_depthwise: bn("bn_depthwise", 8),
            grouped: conv("grouped", 8, 4, 1, 2),
            up: nn::conv_transpose2d(p / "up", 8, 6, 1, config),
            bn_cat: bn("bn_cat", 18),
            fc: nn::linear(p / "fc", 18, 5, Default::default()),
        }
    }
}

#[forward]
impl ModuleT for Coupled {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let stem = xs.apply(&self.stem);
        let ys = stem.apply_t(&self.bn_stem, train).relu().apply(&self.inner);
        let ys = ys.apply_t(&self.bn_inner, train).relu().apply(&self.outer);
        let sum = (stem + ys).apply_t(&self.bn_sum, train).relu();
        let deep = sum.apply(&self.depthwise).apply_t(&self.bn_depthwise, train).relu();
        let ends = [deep.apply(&self.grouped), sum, deep.apply(&self.up)];
        let all = Tensor::cat(&ends, 1).apply_t(&self.bn_cat, train).relu();
        all.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
    }
}

pub(super) fn coupled() -> (Coupled, VarStore) {
    let mut vs = VarStore::new(device());
    let net = Coupled::new(&vs.root());
    fill(&vs);
    vs.double();
    (net, vs)
}

pub(super) fn doubles(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// The squared norm of each slice of `weight` along its first dimension.
fn squares(weight: &Tensor) -> Vec<f64> {
    let rows = weight.size()[0];
    (0..rows).map(|row| doubles(&weight.get(row)).iter().map(|w| w * w).sum()).collect()
}

#[track_caller]
pub(super) fn assert_close(path: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{path}");
    for (channel, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= 1e-10 * expected.abs().max(1e-12);
        assert!(close, "{path}[{channel}]: {found} and not {expected}");
    }
}

pub(super) fn scores(net: &impl Prunable, slimming: &Slimming) -> HashMap<String, Vec<f64>> {
    let scores = net.scores(slimming).unwrap();
    scores.into_iter().map(|layer| (layer.path, layer.scores)).collect()
}

#[test]
fn a_scale_counts_with_the_filters_in_front_of_it() {
    let (net, _vs) = coupled();
    let slimming = Slimming::ratio(0.5).criterion(ScaledNorm);
    let found = scores(&net, &slimming);
    let (stem, outer) = (squares(&net.stem.ws), squares(&net.outer.ws));
    let sum: Vec<f64> = stem.iter().zip(&outer).map(|(a, b)| a + b).collect();
    let depthwise = squares(&net.depthwise.ws);
    // The weight of the transposed convolution is [8 inputs, 3 outputs of each group, 1, 1]; the
    // first 4 inputs are those of the first group.
    let up = (0..6).map(|output| {
        let group = net.up.ws.narrow(0, output / 3 * 4, 4);
        doubles(&group.select(1, output % 3)).iter().map(|w| w * w).sum()
    });
    // Behind `bn_sum`, the filters of the sum count still; a batch norm has none.
    let cat = squares(&net.grouped.ws).into_iter().chain(sum.clone()).chain(up).collect();
    let by_layer = [
        ("bn_stem", &net.bn_stem, stem),
        ("bn_inner", &net.bn_inner, squares(&net.inner.ws)),
        ("bn_sum", &net.bn_sum, sum),
        ("bn_depthwise", &net.bn_depthwise, depthwise),
        ("bn_cat", &net.bn_cat, cat),
    ];
    assert_eq!(found.len(), by_layer.len());
    for (path, bn, squares) in by_layer {
        let scale = doubles(bn.ws.as_ref().unwrap());
        let expected: Vec<f64> =
            scale.iter().zip(squares).map(|(scale, square)| scale.abs() * square.sqrt()).collect();
        assert_close(path, &found[path], &expected);
    }

    let by_file = net.plan(&slimming).unwrap().to_json().unwrap();
    let read = Plan::from_json(&by_file).unwrap();
    assert_eq!(net.plan(read.slimming()).unwrap(), read);
}

/// A batch norm that reads an input of the model beside the output of a convolution.
#[derive(Debug, Prunable)]
struct Bare {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    head: nn::Conv2D,
}

#[forward]
impl ModuleT for Bare {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let both = Tensor::cat(&[xs.shallow_clone(), xs.apply(&self.conv)], 1);
        both.apply_t(&self.bn, train).relu().apply(&self.head)
    }
}

#[test]
fn a_batch_norm_that_reads_an_input_has_no_filters_to_be_ranked_by() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let net = Bare {
        conv: nn::conv2d(p / "conv", 3, 4, 1, Default::default()),
        bn: nn::batch_norm2d(p / "bn", 7, Default::default()),
        head: nn::conv2d(p / "head", 7, 2, 1, Default::default()),
    };
    assert!(net.scores(&Slimming::ratio(0.5).criterion(ScaledNorm)).unwrap().is_empty());
    assert_eq!(net.scores(&Slimming::ratio(0.5)).unwrap()[0].scores.len(), 7);
}

pub(super) fn batch() -> Tensor {
    images(&[4, 3, 6, 6]).to_kind(Kind::Double).to_device(device())
}

fn loss(outputs: &Tensor) -> Tensor {
    outputs.square().sum(Kind::Double) + outputs.sum(Kind::Double)
}

/// `Coupled`, where a gate for each channel group multiplies all that makes or scales its channels.
/// The groups are those of the sum, of `inner`, of `grouped` and of `up`. The two halves of the sum
/// and of the outputs of grouped layers go together.
fn gated(net: &Coupled, xs: &Tensor, [sum, inner, grouped, up]: [&Tensor; 4]) -> Tensor {
    let twice = |gate: &Tensor| Tensor::cat(&[gate, gate], 0);
    let conv = |xs: &Tensor, layer: &nn::Conv2D, gate: &Tensor, groups: i64| {
        let pad = layer.ws.size()[3] / 2;
        let bias = layer.bs.as_ref().map(|bias| bias * gate);
        let weight = &layer.ws * gate.view([-1, 1, 1, 1]);
        xs.conv2d(&weight, bias, [1, 1], [pad, pad], [1, 1], groups)
    };
    let bn = |xs: &Tensor, layer: &nn::BatchNorm, gate: &Tensor| {
        let column = |values: &Tensor| values.view([1, -1, 1, 1]);
        let normed =
            (xs - column(&layer.running_mean)) / column(&(&layer.running_var + 1e-5).sqrt());
        let [scale, shift] = [&layer.ws, &layer.bs].map(|values| values.as_ref().unwrap() * gate);
        normed * column(&scale) + column(&shift)
    };
    let (sum, outputs, ups) = (&twice(sum), &twice(grouped), &twice(up));
    let stem = conv(xs, &net.stem, sum, 1);
    let ys = conv(&bn(&stem, &net.bn_stem, sum).relu(), &net.inner, inner, 1);
    let ys = conv(&bn(&ys, &net.bn_inner, inner).relu(), &net.outer, sum, 1);
    let stream = bn(&(stem + ys), &net.bn_sum, sum).relu();
    let deep = bn(&conv(&stream, &net.depthwise, sum, 8), &net.bn_depthwise, sum).relu();
    let left = conv(&deep, &net.grouped, outputs, 2);
    // In a transposed convolution both groups share the dimension of the outputs.
    let weight = &net.up.ws * up.view([1, -1, 1, 1]);
    let bias = net.up.bs.as_ref().map(|bias| bias * ups);
    let right = deep.conv_transpose2d(&weight, bias, [1, 1], [0, 0], [0, 0], 2, [1, 1]);
    let cat = Tensor::cat(&[left, stream, right], 1);
    let all = bn(&cat, &net.bn_cat, &Tensor::cat(&[outputs, sum, ups], 0)).relu();
    all.mean_dim([2_i64, 3].as_slice(), false, Kind::Double).apply(&net.fc)
}

#[test]
fn the_score_of_a_group_is_the_squared_derivative_of_the_loss_by_its_gate() {
    let (net, vs) = coupled();
    let one = |width| Tensor::ones([width], (Kind::Double, device())).set_requires_grad(true);
    let gates = [4, 6, 2, 3].map(one);
    let [sum, inner, grouped, up] = &gates;
    let truth = gated(&net, &batch(), [sum, inner, grouped, up]);
    let plain = net.forward_t(&batch(), false);
    assert!((&truth - &plain).abs().max().double_value(&[]) < 1e-12);
    let derivatives = Tensor::run_backward(&[loss(&truth)], &gates, false, false);
    let [sum, inner, grouped, up] = [0, 1, 2, 3].map(|i| doubles(&derivatives[i].square()));

    vs.trainable_variables().iter_mut().for_each(Tensor::zero_grad);
    loss(&plain).backward();
    let twice = |scores: &[f64]| [scores, scores].concat();
    for coupling in [Coupling::Max, Coupling::Mean] {
        let slimming = Slimming::ratio(0.5).criterion(GroupTaylor).coupling(coupling);
        let found = scores(&net, &slimming);
        assert_eq!(found.len(), 5, "{:?}", found.keys());
        assert_close("stem", &found["stem"], &twice(&sum));
        assert_close("outer", &found["outer"], &twice(&sum));
        assert_close("inner", &found["inner"], &inner);
        assert_close("grouped", &found["grouped"], &twice(&grouped));
        assert_close("up", &found["up"], &up);
        // A group has one score, whichever layer asks.
        for path in ["stem", "bn_sum", "depthwise", "bn_depthwise"] {
            let explained = net.explain(&slimming, path).unwrap();
            let of: Vec<f64> =
                explained.channels.iter().map(|channel| channel.score.unwrap()).collect();
            assert_close(path, &of, &twice(&sum));
        }
    }
    // Layer by layer, the score is another: the changes of the two convolutions do not cancel.
    let apart = scores(&net, &Slimming::ratio(0.5).criterion(Taylor));
    assert!(apart["stem"].iter().zip(twice(&sum)).all(|(a, b)| (a - b).abs() > 1e-3 * b.abs()));
}

/// A convolution that is applied twice, so that its weight is in one place of the network's memory
/// and in two of its data flow.
#[derive(Debug, Prunable)]
struct Shared {
    stem: nn::Conv2D,
    twice: nn::Conv2D,
    head: nn::Conv2D,
}

#[forward]
impl ModuleT for Shared {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.stem).relu();
        xs.apply(&self.twice).relu().apply(&self.twice).relu().apply(&self.head)
    }
}

#[test]
fn a_shared_weight_changes_the_loss_once() {
    let mut vs = VarStore::new(device());
    let p = &vs.root();
    let net = Shared {
        stem: nn::conv2d(p / "stem", 3, 4, 1, Default::default()),
        twice: nn::conv2d(p / "twice", 4, 4, 1, Default::default()),
        head: nn::conv2d(p / "head", 4, 2, 1, Default::default()),
    };
    fill(&vs);
    vs.double();
    loss(&net.forward_t(&batch(), false)).backward();
    let change = |layer: &nn::Conv2D| {
        let [weight, bias] = [Some(&layer.ws), layer.bs.as_ref()].map(Option::unwrap);
        let rows = (weight * weight.grad()).sum_dim_intlist([1_i64, 2, 3].as_slice(), false, None);
        doubles(&(rows + bias * bias.grad()))
    };
    let both = change(&net.stem).into_iter().zip(change(&net.twice));
    let expected: Vec<f64> = both.map(|(a, b)| (a + b) * (a + b)).collect();
    let found = scores(&net, &Slimming::ratio(0.5).criterion(GroupTaylor));
    assert_close("stem", &found["stem"], &expected);
    assert_close("twice", &found["twice"], &expected);
}

#[test]
fn a_group_without_gradients_says_what_is_missing() {
    let (net, _vs) = coupled();
    let error = net.plan(&Slimming::ratio(0.5).criterion(GroupTaylor)).unwrap_err();
    insta::assert_snapshot!(error, @"nothing to prune: the criterion `group_taylor` scores no layer of the data flow; it reads gradients, so call `backward` on a loss before planning");
}
