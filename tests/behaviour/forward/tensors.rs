//! Real tensors in a forward pass: tensors of the model, and constants.

use slim_runtime::{Plan, Prunable, Slimming, forward};
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

use super::{bn, built, conv, images, left, linear, net, refusal, slimmed_is_masked};

const DOUBLES: (Kind, Device) = (Kind::Double, Device::Cpu);

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

/// A projection to four heads of four dimensions, whose values are multiplied by weights without
/// channels.
macro_rules! weighted_heads {
    (|$xs:ident, $v:ident, [$n:ident, $heads:ident, $t:ident]| $weights:expr) => {
        net! { Net {
            stem: nn::Linear = |p| linear(p, 6, 16),
            value: nn::Linear = |p| linear(p, 16, 16),
            proj: nn::Linear = |p| linear(p, 16, 4),
        } |net, xs, _train| {
            let xs = xs.apply(&net.stem);
            let ($n, $t, _) = xs.size3().unwrap();
            let $xs = &xs;
            let $v = xs.apply(&net.value).view([$n, $t, -1, 4]).transpose(1, 2);
            let $heads = $v.size()[1];
            let weights: Tensor = $weights;
            weights.matmul(&$v).transpose(1, 2).reshape([$n, $t, -1]).apply(&net.proj)
        } }
    };
}

/// The plan of [`weighted_heads`], which is slimmed as it is masked, and the outputs of the
/// projection to heads that are left.
fn plan_of_heads<M: nn::ModuleT + Prunable>(build: fn(&VarStore) -> M) -> (Plan, usize) {
    let slimming = Slimming::ratio(0.3).criterion(slim_runtime::criterion::L2).local();
    let tokens = Tensor::randn([2, 5, 6], DOUBLES);
    let plan = slimmed_is_masked(build, &slimming, &tokens);
    let width = left(&plan, "value");
    (plan, width)
}

#[test]
fn heads_stay_that_a_tensor_without_channels_counts() {
    weighted_heads! { |xs, v, [n, heads, t]| {
        let _ = (heads, xs);
        Tensor::ones([n, 4, t, t], DOUBLES)
    } }
    let (plan, left) = plan_of_heads(Net::new);
    assert_eq!(left, 16, "{plan}");
    let text = plan.to_string();
    assert!(text.contains("`matmul` multiplies them by a tensor in which their number is written out; compute it from `size()`"), "{text}");
}

#[test]
fn heads_go_where_their_number_is_asked_for_or_one() {
    {
        weighted_heads! { |xs, v, [n, heads, t]| {
            let _ = xs;
            Tensor::ones([n, heads, t, t], DOUBLES)
        } }
        assert!(plan_of_heads(Net::new).1 < 16);
    }
    weighted_heads! { |xs, v, [n, heads, t]| {
        let _ = (heads, xs);
        Tensor::ones([n, 1, t, t], DOUBLES)
    } }
    assert!(plan_of_heads(Net::new).1 < 16);
}

#[test]
fn a_tensor_that_never_fits_the_heads_is_refused() {
    weighted_heads! { |xs, v, [n, heads, t]| {
        let _ = (heads, xs);
        Tensor::ones([n, 3, t, t], DOUBLES)
    } }
    let text = refusal(Net::new);
    let expected = "`matmul` of [3, 3, 96, 96] and [?, 4 channels, ?, 4 channels]: their dimensions before the last two differ";
    assert!(text.contains(expected), "{text}");
}

/// Heads that are multiplied by a real tensor with a matrix for each head.
#[derive(Debug, Prunable)]
struct Mixed {
    value: nn::Linear,
    #[prune(skip)]
    mixing: Tensor,
    proj: nn::Linear,
}

#[forward]
impl nn::ModuleT for Mixed {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let value = xs.apply(&self.value);
        let (n, t, _) = value.size3().unwrap();
        let value = value.view([n, t, -1, 4]).permute([0, 2, 3, 1]);
        let mixed = value.matmul(&self.mixing).permute([0, 3, 1, 2]);
        mixed.flatten(2, -1).apply(&self.proj)
    }
}

#[test]
fn heads_stay_that_a_real_tensor_counts() {
    let build = |heads: i64| {
        move |vs: &VarStore| Mixed {
            value: linear(&(vs.root() / "value"), 6, 16),
            mixing: Tensor::ones([heads, 5, 5], DOUBLES),
            proj: linear(&(vs.root() / "proj"), 16, 4),
        }
    };
    let tokens = Tensor::randn([2, 5, 6], DOUBLES);
    let slimming = Slimming::ratio(0.5).criterion(slim_runtime::criterion::L2).local();
    assert!(left(&slimmed_is_masked(build(1), &slimming, &tokens), "value") < 16);
    let (net, _vs) = built(build(4));
    let text = net.plan(&slimming).unwrap_err().to_string();
    assert!(text.contains("nothing to prune"), "{text}");
    assert!(refusal(build(3)).contains("dimensions before the last two differ"));
}

/// Multi-query attention without a softmax: whole heads of the query go, and all read one head of
/// key and value.
#[test]
fn heads_that_share_a_value_go_where_their_weights_are_zero() {
    net! { Net {
        stem: nn::Linear = |p| linear(p, 6, 12),
        query: nn::Linear = |p| linear(p, 12, 32),
        key: nn::Linear = |p| linear(p, 12, 4),
        value: nn::Linear = |p| linear(p, 12, 4),
        proj: nn::Linear = |p| linear(p, 32, 5),
    } |net, xs, _train| {
        let xs = xs.apply(&net.stem);
        let (n, t, _) = xs.size3().unwrap();
        let query = xs.apply(&net.query).view([n, t, -1, 4]).transpose(1, 2);
        let key = xs.apply(&net.key).view([n, t, -1, 4]).transpose(1, 2);
        let value = xs.apply(&net.value).view([n, t, -1, 4]).transpose(1, 2);
        let weights = query.matmul(&key.transpose(-2, -1)).relu();
        weights.matmul(&value).transpose(1, 2).reshape([n, t, -1]).apply(&net.proj)
    } }
    let tokens = Tensor::randn([2, 5, 6], DOUBLES);
    for ratio in [0.2, 0.5] {
        let slimming = Slimming::ratio(ratio).criterion(slim_runtime::criterion::L2).local();
        let plan = slimmed_is_masked(Net::new, &slimming, &tokens);
        let left = [left(&plan, "query"), left(&plan, "key"), left(&plan, "value")];
        assert!(left[0] < 32 && left[0] / 4 * 4 == left[0] && left[1..] == [4, 4], "{plan}");
        assert!(plan.to_string().contains("`matmul` gives them to all heads"), "{plan}");
    }
}

/// Weights of heads that a batch norm makes, for values that all heads share.
#[test]
fn heads_of_a_batch_norm_go_that_share_a_value() {
    net! { Net {
        weights: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        value: nn::Conv2D = |p| conv(p, 3, 4),
        proj: nn::Conv2D = |p| conv(p, 32, 4),
    } |net, xs, train| {
        let weights = xs.apply(&net.weights).apply_t(&net.bn1, train);
        let value = xs.apply(&net.value).mean_dim([3].as_slice(), false, Kind::Double);
        let heads = weights.matmul(&value.transpose(1, 2).unsqueeze(1)).transpose(2, 3);
        heads.flatten(1, 2).unsqueeze(3).apply(&net.proj)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    assert!(left(&plan, "bn1") < 8, "{plan}");
}

/// One channel that is left is copied to as many as the channels that it meets.
#[test]
fn a_channel_that_is_left_alone_is_repeated_like_others() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 4),
        bn1: nn::BatchNorm = |p| bn(p, 4),
        conv2: nn::Conv2D = |p| conv(p, 3, 12),
        bn2: nn::BatchNorm = |p| bn(p, 12),
        conv3: nn::Conv2D = |p| conv(p, 12, 4),
    } |net, xs, train| {
        let few = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let many = xs.apply(&net.conv2).apply_t(&net.bn2, train).relu();
        let each = few.repeat_interleave_self_int(3, 1, None);
        let stacked = Tensor::cat(&[&(&each + &many), &many, &each], 2);
        stacked.apply(&net.conv3)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.99), &images());
    assert_eq!((left(&plan, "bn1"), left(&plan, "bn2")), (1, 3), "{plan}");
}

/// One dense head with a dimension for the heads of the query that share it.
#[test]
fn one_head_is_what_minus_one_takes() {
    for heads in [1, 4] {
        let build = |vs: &VarStore| Groups {
            stem: linear(&(vs.root() / "stem"), 6, 8),
            value: linear(&(vs.root() / "value"), 8, 4 * heads),
            proj: linear(&(vs.root() / "proj"), 4 * heads, 4),
        };
        let tokens = Tensor::randn([2, 5, 6], DOUBLES);
        for ratio in [0.3, 0.9] {
            let slimming = Slimming::ratio(ratio).criterion(slim_runtime::criterion::L2).local();
            let plan = slimmed_is_masked(build, &slimming, &tokens);
            assert!(left(&plan, "stem") < 8 && left(&plan, "value").is_multiple_of(4), "{plan}");
        }
    }
}

/// Heads of four dimensions behind a view with a dimension of one beside them.
#[derive(Debug, Prunable)]
struct Groups {
    stem: nn::Linear,
    value: nn::Linear,
    proj: nn::Linear,
}

#[forward]
impl nn::ModuleT for Groups {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.stem);
        let (n, t, _) = xs.size3().unwrap();
        let value = xs.apply(&self.value).view([n, t, -1, 1, 4]).permute([0, 2, 3, 1, 4]);
        let value = value.expand([-1, -1, 2, -1, -1], false);
        let value = value.select(2, 1).transpose(1, 2);
        value.flatten(2, -1).apply(&self.proj)
    }
}
