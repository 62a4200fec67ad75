//! Real tensors in a forward pass: tensors of the model, and constants.

use slim_runtime::{Prunable, Slimming, forward};
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

use super::{bn, built, conv, images, left, linear, net, refusal, slimmed_is_masked};

#[test]
fn a_scale_and_a_shift_follow_the_channels_that_they_meet() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        gamma: Tensor = |p| p.var("value", &[8], nn::Init::Randn { mean: 1., stdev: 0.3 }),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        beta: Tensor =
            |p| p.var("value", &[1, 8, 1, 1], nn::Init::Randn { mean: 0., stdev: 1. }),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train) * net.gamma.view([1, -1, 1, 1]);
        let xs = xs.relu().apply(&net.conv2).apply_t(&net.bn2, train).relu();
        (&xs + &net.beta).apply(&net.conv3)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    // `beta` is not zero where a channel is removed, so its channels stay.
    assert_eq!((left(&plan, "gamma"), left(&plan, "beta")), (left(&plan, "bn1"), 8));
    assert!(left(&plan, "bn1") < 8);
}

#[test]
fn a_class_token_and_a_position_bias() {
    #[derive(Debug, Prunable)]
    #[prune(input = [3, 8, 8])]
    struct Net {
        patches: nn::Conv2D,
        bn: nn::BatchNorm,
        token: Tensor,
        positions: Tensor,
        mlp: nn::Linear,
        head: nn::Linear,
    }

    #[forward]
    impl nn::ModuleT for Net {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            let xs = xs.apply(&self.patches).apply_t(&self.bn, train);
            let xs = xs.flatten(2, -1).transpose(1, 2);
            let token = self.token.expand([xs.size()[0], -1, -1], false);
            let xs = Tensor::cat(&[&token, &xs], 1) + &self.positions;
            xs.apply(&self.mlp).relu().select(1, 0).apply(&self.head)
        }
    }

    let build = |vs: &VarStore| {
        let p = vs.root();
        Net {
            patches: nn::conv2d(
                &p / "patches",
                3,
                8,
                4,
                nn::ConvConfig { stride: 4, ..Default::default() },
            ),
            bn: bn(&(&p / "bn"), 8),
            token: p.var("token", &[1, 1, 8], nn::Init::Randn { mean: 0., stdev: 1. }),
            positions: p.var("positions", &[1, 5, 8], nn::Init::Randn { mean: 0., stdev: 1. }),
            mlp: linear(&(&p / "mlp"), 8, 12),
            head: linear(&(&p / "head"), 12, 3),
        }
    };
    // By weights, since the added tensors keep batch norms from removing channels.
    let slimming = Slimming::ratio(0.5).criterion(slim_runtime::criterion::L2).local();
    let plan = slimmed_is_masked(build, &slimming, &images());
    let (mut net, _vs) = built(build);
    net.apply(&plan).unwrap();
    let width = left(&plan, "patches") as i64;
    assert!(width < 8);
    assert_eq!(net.token.size(), [1, 1, width]);
    assert_eq!(net.positions.size(), [1, 5, width]);
}

#[test]
fn constants_are_what_they_are() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let mean = Tensor::from_slice(&[0.4f64, 0.5, 0.6]).view([1, 3, 1, 1]);
        let xs = (xs - mean) / 2.;
        xs.apply(&net.conv1).apply_t(&net.bn1, train).relu().apply(&net.conv2)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    assert_eq!(left(&plan, "bn1"), 3);
}

#[test]
fn what_is_computed_from_parameters_is_refused() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        gamma: Tensor = |p| p.var("value", &[8], nn::Init::Const(1.)),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let gamma = net.gamma.exp().view([1, -1, 1, 1]);
        (xs.apply(&net.conv1).apply_t(&net.bn1, train) * gamma).apply(&net.conv2)
    } }
    let text = refusal(Net::new);
    assert!(text.contains("behaviour/forward/tensors.rs:"), "{text}");
    assert!(text.contains("a tensor is used that is computed from parameters"), "{text}");
}

#[test]
fn a_part_of_a_tensor_is_refused() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        gamma: Tensor = |p| p.var("value", &[2, 8], nn::Init::Const(1.)),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let gamma = net.gamma.select(0, 1).view([1, -1, 1, 1]);
        (xs.apply(&net.conv1).apply_t(&net.bn1, train) * gamma).apply(&net.conv2)
    } }
    let text = refusal(Net::new);
    assert!(text.contains("a part of `gamma` is used"), "{text}");
}

#[test]
fn attention_written_out_loses_head_dimensions_or_whole_heads() {
    /// Self-attention over tokens, with a literal number of heads or a literal head dimension.
    /// Returns the outputs of the projection that are left.
    macro_rules! attention {
        ($name:ident, $heads:expr, $dim:expr) => {
            fn $name() -> Vec<usize> {
                net! { Net {
                    stem: nn::Linear = |p| linear(p, 6, 16),
                    qkv: nn::Linear = |p| linear(p, 16, 48),
                    proj: nn::Linear = |p| linear(p, 16, 16),
                    head: nn::Linear = |p| linear(p, 16, 4),
                } |net, xs, _train| {
                    let xs = xs.apply(&net.stem);
                    let (n, t, _) = xs.size3().unwrap();
                    let qkv = xs
                        .apply(&net.qkv)
                        .view([n, t, 3, $heads, $dim])
                        .permute([2, 0, 3, 1, 4]);
                    let (q, k, v) = (qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2));
                    let weights = (q.matmul(&k.transpose(-2, -1)) * 0.5).softmax(-1, None);
                    let ys = weights.matmul(&v).transpose(1, 2).reshape([n, t, -1]);
                    ys.apply(&net.proj).apply(&net.head)
                } }
                let tokens = Tensor::randn([2, 5, 6], (Kind::Double, Device::Cpu));
                let slimming = Slimming::ratio(0.5).criterion(slim_runtime::criterion::L2).local();
                let plan = slimmed_is_masked(Net::new, &slimming, &tokens);
                plan.layer("qkv").unwrap().axis("out").unwrap().keep.iter().collect()
            }
        };
    }
    attention!(by_dimension, 4, -1);
    let dims = by_dimension();
    assert!(dims.len() < 48 && dims.len().is_multiple_of(12), "{dims:?}");
    attention!(by_head, -1, 4);
    let heads = by_head();
    assert!(heads.len() < 48 && heads.len().is_multiple_of(12), "{heads:?}");
    assert!(heads.chunks(4).all(|head| head[0] % 4 == 0 && head[3] == head[0] + 3), "{heads:?}");
}
