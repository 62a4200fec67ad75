//! A deployed network computes the same, faster: which batch norms are folded and which stay, which
//! networks are refused, and the reports.

use slim_runtime::{
    Deployed, Error, Flow, LayerKind, Layout, NormOutcome, Prunable, Result, Slimming, Tracer,
    checkpoint, deploy, functional, model, nn as own, recalibrate,
};
use slim_tests::fill::fill;
use slim_tests::networks::Residual;
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{self, assert_same, images, values};

mod behind;
mod refused;
mod said;

/// Builds a network with values like those of a trained one.
fn built<M>(build: impl Fn(&nn::Path) -> M) -> (M, VarStore) {
    tch::set_num_threads(1);
    let vs = VarStore::new(Device::Cpu);
    let net = build(&vs.root());
    fill(&vs);
    (net, vs)
}

fn forward(net: &impl ModuleT, xs: &Tensor) -> Tensor {
    tch::no_grad(|| net.forward_t(xs, false))
}

/// Deploys, and asserts that the outputs stay within `tolerance`.
fn deployed<M: ModuleT + Prunable>(net: &mut M, xs: &Tensor, tolerance: f64) -> Deployed {
    let before = forward(net, xs);
    let deployed = deploy(net, xs, |net, xs| net.forward_t(xs, false))
        .unwrap_or_else(|error| panic!("{error}"));
    slim_tests::check::assert_close(
        &forward(net, xs).to_kind(Kind::Double),
        &before.to_kind(Kind::Double),
        tolerance,
    );
    deployed
}

fn fates(deployed: &Deployed) -> Vec<(&str, &str)> {
    let fate = |fate: &NormOutcome| match fate {
        NormOutcome::Folded { .. } => "folded",
        NormOutcome::Identity { .. } => "identity",
        _ => "left",
    };
    deployed.norms.iter().map(|norm| (norm.path.as_str(), fate(&norm.fate))).collect()
}

/// A network with each kind of layer that a batch norm can be folded into.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 4)]
struct Layers {
    plain: (own::Conv2D, own::BatchNorm),
    grouped: (own::Conv2D, own::BatchNorm),
    whole: (own::Conv2D, own::BatchNorm),
    depthwise: (own::Conv2D, own::BatchNorm),
    circular: (own::Conv2D, own::BatchNorm),
    transposed: (own::ConvTranspose2D, own::BatchNorm),
    grouped_transposed: (own::ConvTranspose2D, own::BatchNorm),
    depthwise_transposed: (own::ConvTranspose2D, own::BatchNorm),
    pooled: (own::Conv2D, own::AvgPool2d, own::BatchNorm),
    of_tch: (nn::Conv2D, nn::BatchNorm),
    transposed_of_tch: (nn::ConvTranspose2D, nn::BatchNorm),
    linear: (own::Linear, own::BatchNorm),
    linear_of_tch: (nn::Linear, own::BatchNorm),
}

impl Layers {
    /// `bias` sets the bias of every layer, `affine` γ and β of every batch norm.
    fn new(p: &nn::Path, bias: bool, affine: bool) -> Self {
        let norm = |name: &str, width| {
            own::batch_norm2d(
                p / name / 1,
                width,
                nn::BatchNormConfig { affine, eps: 1e-3, ..Default::default() },
            )
        };
        let norm1 = |name: &str| {
            own::batch_norm1d(p / name / 1, 6, nn::BatchNormConfig { affine, ..Default::default() })
        };
        let of_tch = |name: &str| {
            nn::batch_norm2d(
                p / name / 1,
                8,
                nn::BatchNormConfig { affine, eps: 0.02, ..Default::default() },
            )
        };
        let conv = |name: &str, inputs, outputs, groups| {
            own::conv2d(
                p / name / 0,
                inputs,
                outputs,
                3,
                nn::ConvConfig { padding: 1, groups, bias, ..Default::default() },
            )
        };
        let transposed = |name: &str, inputs, outputs, groups| {
            own::conv_transpose2d(
                p / name / 0,
                inputs,
                outputs,
                2,
                nn::ConvTransposeConfig { groups, bias, ..Default::default() },
            )
        };
        let circular = nn::ConvConfig {
            padding: 1,
            bias,
            padding_mode: nn::PaddingMode::Circular,
            ..Default::default()
        };
        let grouped = nn::ConvConfig { padding: 1, groups: 2, bias, ..Default::default() };
        let grouped_transposed = nn::ConvTransposeConfig { groups: 2, bias, ..Default::default() };
        let linear = nn::LinearConfig { bias, ..Default::default() };
        Layers {
            plain: (conv("plain", 4, 8, 1), norm("plain", 8)),
            grouped: (conv("grouped", 8, 12, 2), norm("grouped", 12)),
            whole: (conv("whole", 12, 6, 3).whole_groups(), norm("whole", 6)),
            depthwise: (conv("depthwise", 6, 12, 6), norm("depthwise", 12)),
            circular: (own::conv2d(p / "circular" / 0, 12, 8, 3, circular), norm("circular", 8)),
            transposed: (transposed("transposed", 8, 12, 1), norm("transposed", 12)),
            grouped_transposed: (
                transposed("grouped_transposed", 12, 6, 3),
                norm("grouped_transposed", 6),
            ),
            depthwise_transposed: (
                transposed("depthwise_transposed", 6, 12, 6),
                norm("depthwise_transposed", 12),
            ),
            pooled: (conv("pooled", 12, 8, 1), own::avg_pool2d(2, 2), norm("pooled", 8)),
            of_tch: (nn::conv2d(p / "of_tch" / 0, 8, 8, 3, grouped), of_tch("of_tch")),
            transposed_of_tch: (
                nn::conv_transpose2d(p / "transposed_of_tch" / 0, 8, 8, 2, grouped_transposed),
                of_tch("transposed_of_tch"),
            ),
            linear: (own::linear(p / "linear" / 0, 8, 6, linear), norm1("linear")),
            linear_of_tch: (
                nn::linear(p / "linear_of_tch" / 0, 6, 6, linear),
                norm1("linear_of_tch"),
            ),
        }
    }
}

impl ModuleT for Layers {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.plain.0).apply_t(&self.plain.1, train).relu();
        let xs = xs.apply(&self.grouped.0).apply_t(&self.grouped.1, train).relu();
        let xs = xs.apply(&self.whole.0).apply_t(&self.whole.1, train).relu();
        let xs = xs.apply(&self.depthwise.0).apply_t(&self.depthwise.1, train).relu();
        let xs = xs.apply(&self.circular.0).apply_t(&self.circular.1, train).relu();
        let xs = xs.apply(&self.transposed.0).apply_t(&self.transposed.1, train).relu();
        let xs =
            xs.apply(&self.grouped_transposed.0).apply_t(&self.grouped_transposed.1, train).relu();
        let xs = xs
            .apply(&self.depthwise_transposed.0)
            .apply_t(&self.depthwise_transposed.1, train)
            .relu();
        let xs =
            xs.apply(&self.pooled.0).apply(&self.pooled.1).apply_t(&self.pooled.2, train).relu();
        let xs = xs.apply(&self.of_tch.0).apply_t(&self.of_tch.1, train).relu();
        let xs =
            xs.apply(&self.transposed_of_tch.0).apply_t(&self.transposed_of_tch.1, train).relu();
        let xs = xs.mean_dim([2, 3].as_slice(), false, xs.kind());
        let xs = xs.apply(&self.linear.0).apply_t(&self.linear.1, train).relu();
        xs.apply(&self.linear_of_tch.0).apply_t(&self.linear_of_tch.1, train)
    }
}

#[test]
fn every_layer_takes_its_batch_norm() {
    for (bias, affine) in [(true, true), (true, false), (false, true), (false, false)] {
        let xs = Tensor::randn([2, 4, 6, 6], (Kind::Double, Device::Cpu));
        let (mut net, mut vs) = built(|p| Layers::new(p, bias, affine));
        vs.double();
        let deployed = deployed(&mut net, &xs, 1e-9);
        let identities: Vec<_> =
            fates(&deployed).into_iter().filter(|(_, fate)| *fate != "folded").collect();
        // Both kinds of batch norm are read with their own eps, not the default.
        assert_eq!(identities, [("of_tch.1", "identity"), ("transposed_of_tch.1", "identity")]);
        assert_eq!(deployed.norms.len(), 13);
        let bias_of = |bias: &Option<Tensor>| bias.as_ref().unwrap().requires_grad();
        assert!(
            !bias_of(&net.plain.0.bs)
                && !bias_of(&net.of_tch.0.bs)
                && !bias_of(&net.linear_of_tch.0.bs)
        );
    }
}

#[test]
fn single_and_half_precision_are_folded_to_their_rounding() {
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.1), (Kind::Half, 2e-2)] {
        let (mut net, mut vs) = built(common::Net::new);
        vs.set_kind(kind);
        let xs = images(2).to_kind(kind);
        let deployed = deployed(&mut net, &xs, tolerance);
        assert_eq!(deployed.norms.len(), 2);
        assert_eq!((net.conv1.ws.kind(), net.conv1.bs.as_ref().unwrap().kind()), (kind, kind));
    }
}

/// Slims and then deploys; the store still holds the slimmed network.
#[test]
fn a_slimmed_network_is_deployed_and_the_store_left_alone() {
    let (mut net, vs) = built(common::Net::new);
    let slimmed = net.slim(0.5).unwrap();
    let (before, xs) = (values(&vs), images(3));
    let expected = forward(&net, &xs);
    deployed(&mut net, &xs, 1e-5);
    assert_same(&values(&vs), &before);
    assert!(vs.trainable_variables().iter().all(Tensor::requires_grad));
    let parameters = [&net.conv1.ws, &net.conv2.ws, &net.fc.ws]
        .into_iter()
        .chain([&net.bn1.ws, &net.fc.bs].into_iter().flatten());
    assert!(parameters.into_iter().all(|tensor| !tensor.requires_grad()));

    // The saved file holds the network before `deploy`.
    let file = tempfile::tempdir().unwrap().path().join("slim.safetensors");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    let (mut other, mut other_vs) = built(common::Net::new);
    checkpoint::load(&file, &mut other_vs, &mut other).unwrap();
    assert_eq!(forward(&other, &xs), expected);
}

/// A convolution that runs twice, each time in front of the same batch norm; two convolutions with
/// one weight; and a convolution in front of two batch norms in turn.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 4)]
struct Shared {
    block: (own::Conv2D, own::BatchNorm),
    #[prune(from = block(block))]
    first: own::Conv2D,
    bn1: own::BatchNorm,
    second: own::Conv2D,
    bn2: own::BatchNorm,
    other: own::Conv2D,
    bn3: own::BatchNorm,
    #[prune(from = other(bn3))]
    bn4: own::BatchNorm,
}

impl ModuleT for Shared {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let block = |xs: &Tensor| xs.apply(&self.block.0).apply_t(&self.block.1, train).relu();
        let xs = block(&block(xs));
        let xs = xs
            .apply(&self.first)
            .apply_t(&self.bn1, train)
            .apply(&self.second)
            .apply_t(&self.bn2, train);
        xs.apply(&self.other).apply_t(&self.bn3, train).apply(&self.other).apply_t(&self.bn4, train)
    }
}

#[test]
fn layers_that_are_used_twice_and_weights_that_are_shared() {
    let build = |p: &nn::Path| {
        let conv = |name: &str| {
            own::conv2d(p / name, 4, 4, 3, nn::ConvConfig { padding: 1, ..Default::default() })
        };
        let norm = |name: &str| own::batch_norm2d(p / name, 4, Default::default());
        let first = conv("first");
        let mut second = conv("second");
        second.ws = first.ws.shallow_clone();
        let (bn1, mut bn2) = (norm("bn1"), norm("bn2"));
        bn2.ws = bn1.ws.as_ref().map(Tensor::shallow_clone);
        let (block, other, bn3, bn4) =
            ((conv("conv"), norm("bn")), conv("other"), norm("bn3"), norm("bn4"));
        Shared { block, first, bn1, second, bn2, other, bn3, bn4 }
    };
    let xs = Tensor::randn([2, 4, 6, 6], (Kind::Double, Device::Cpu));
    let (mut net, mut vs) = built(build);
    vs.double();
    let deployed = deployed(&mut net, &xs, 1e-9);
    assert_eq!(
        fates(&deployed),
        [
            ("block.1", "folded"),
            ("bn1", "folded"),
            ("bn2", "folded"),
            ("bn3", "left"),
            ("bn4", "left")
        ]
    );
    let reason =
        |path: &str| match &deployed.norms.iter().find(|norm| norm.path == path).unwrap().fate {
            NormOutcome::Left { reason } => reason.clone(),
            fate => panic!("{fate:?}"),
        };
    assert_eq!(
        reason("bn3"),
        "`other`, in front of it, is used without it elsewhere; behind it, the wiring does not name the activations"
    );
    assert_eq!(reason("bn4"), reason("bn3"));
    // Each layer has its own weight now, and the store the shared one.
    assert!(!net.first.ws.equal(&net.second.ws));
}

model! {
    /// A network with a concatenation and a batch norm behind it, activations of all kinds, and a
    /// convolution at the end.
    #[derive(Debug)]
    struct Dense {
        conv1 = conv2d(3 => 16, kernel = 3, padding = 1);
        bn1 = batch_norm(16);
        a = relu;
        conv2 = conv2d(16 => 16, kernel = 3, padding = 1);
        bn2 = batch_norm(16);
        b = silu;
        [a, b];
        bn3 = batch_norm(32);
        relu6;
        conv3 = conv2d(32 => 16, kernel = 1);
        bn4 = batch_norm(16);
        gate = bn4.sigmoid();
        gate * a;
        shuffle(2);
        chunk(2, 1);
        interpolate(2);
        max_pool(2);
        dropout(0.5);
        head = conv2d(8 => 5, kernel = 1);
    }
}

#[test]
fn a_model_runs_in_every_layout_and_at_every_size() {
    let (mut net, _vs) = built(|p| Dense::new(p));
    let xs = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let deployed = deployed(&mut net, &xs, 1e-5);
    assert_eq!(
        fates(&deployed),
        [("bn1", "folded"), ("bn2", "folded"), ("bn3", "left"), ("bn4", "folded")]
    );
    assert!(deployed.layouts.iter().all(|trial| trial.out.is_none()), "{deployed}");
    // An input of another size: packed and unpacked weights give the same outputs.
    let other = Tensor::randn([1, 3, 12, 10], (Kind::Float, Device::Cpu));
    let expected = functional::without_packing(|| forward(&net, &other));
    slim_tests::check::assert_close(&forward(&net, &other), &expected, 1e-5);
}

#[test]
fn a_model_that_writes_where_nothing_else_reads_trains_as_one_that_does_not() {
    let (net, vs) = built(|p| Residual::new(p));
    let xs = images(4);
    let by_hand = |net: &Residual| {
        let a = xs.apply(&net.conv1).apply_t(&net.bn1, true).relu();
        let sum = a.apply(&net.conv2).apply_t(&net.bn2, true) + a;
        sum.relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    };
    let grads = |output: Tensor| {
        vs.trainable_variables().iter_mut().for_each(Tensor::zero_grad);
        output.square().mean(Kind::Float).backward();
        vs.trainable_variables()
            .into_iter()
            .map(|variable| variable.grad().copy())
            .collect::<Vec<_>>()
    };
    let (found, expected) = (grads(net.forward_t(&xs, true)), grads(by_hand(&net)));
    assert!(
        found
            .iter()
            .zip(&expected)
            .all(|(found, expected)| found.allclose(expected, 1e-5, 1e-7, false))
    );
    assert!(expected.iter().all(|grad| grad.abs().max().double_value(&[]) > 0.));
    assert!(
        forward(&net, &xs).allclose(&forward(&net, &xs), 0., 0., false),
        "the input is as it was"
    );
}

/// A trace can hold neither packed weights nor weights that require gradients.
#[test]
fn a_deployed_network_is_traced() {
    let (mut net, _vs) = built(|p| Dense::new(p));
    let xs = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    deployed(&mut net, &xs, 1e-5);
    let mut run = |xs: &[Tensor]| vec![net.forward_t(&xs[0], false)];
    let inputs = [xs.shallow_clone()];
    let traced = functional::without_packing(|| {
        tch::CModule::create_by_tracing("Net", "forward", &inputs, &mut run)
    })
    .unwrap();
    slim_tests::check::assert_close(
        &traced.forward_ts(&inputs).unwrap(),
        &forward(&net, &xs),
        1e-5,
    );
}

/// A composite that does not visit its parts, which slimming does not require.
#[derive(Debug)]
struct Unreached {
    conv: own::Conv2D,
    bn: own::BatchNorm,
}

impl Prunable for Unreached {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = cx.field("conv", |cx| self.conv.trace(cx, input))?;
        cx.field("bn", |cx| self.bn.trace(cx, flow))
    }
}

/// A user's own convolution.
#[derive(Debug)]
struct Own {
    weight: Tensor,
}

impl Prunable for Own {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::Conv);
        let (written, read) = (
            layer.write("out", self.weight.size()[0])?,
            layer.read("in", &input, self.weight.size()[1])?,
        );
        layer.parameter("weight", &self.weight, &[(0, written), (1, read)])?;
        layer.pass(written)
    }
}

impl Module for Own {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.conv2d::<Tensor>(&self.weight, None, 1, 0, 1, 1)
    }
}

/// Batch norms that stay, each for a different reason, and one that is folded (`bn5`).
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3, output = bn5)]
struct Staying {
    bn1: own::BatchNorm,
    unreached: Unreached,
    own: (Own, own::BatchNorm),
    conv: own::Conv2D,
    bn2: own::BatchNorm,
    #[prune(from = bn2 + conv)]
    conv2: own::Conv2D,
    pool: own::MaxPool2d,
    bn3: own::BatchNorm,
    #[prune(act = relu)]
    conv3: own::Conv2D,
    bn4: own::BatchNorm,
    conv4: own::Conv2D,
    bn5: own::BatchNorm,
}

impl Staying {
    fn new(p: &nn::Path) -> Self {
        let norm = |name: &str, width| own::batch_norm2d(p / name, width, Default::default());
        let conv = |name: &str, inputs| own::conv2d(p / name, inputs, 4, 1, Default::default());
        Staying {
            bn1: norm("bn1", 3),
            unreached: Unreached { conv: conv("unreached", 3), bn: norm("unreached_bn", 4) },
            own: (
                Own { weight: (p / "own").var("weight", &[4, 4, 1, 1], nn::Init::Const(0.)) },
                norm("own_bn", 4),
            ),
            conv: conv("conv", 4),
            bn2: norm("bn2", 4),
            conv2: conv("conv2", 4),
            pool: own::max_pool2d(2, 2),
            bn3: norm("bn3", 4),
            conv3: conv("conv3", 4),
            bn4: norm("bn4", 4),
            conv4: conv("conv4", 4),
            bn5: norm("bn5", 4),
        }
    }
}

impl ModuleT for Staying {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs
            .apply_t(&self.bn1, train)
            .apply(&self.unreached.conv)
            .apply_t(&self.unreached.bn, train);
        let xs = xs.apply(&self.own.0).apply_t(&self.own.1, train).apply(&self.conv);
        let xs = (xs.apply_t(&self.bn2, train) + xs)
            .apply(&self.conv2)
            .apply(&self.pool)
            .apply_t(&self.bn3, train);
        xs.apply(&self.conv3)
            .relu()
            .apply_t(&self.bn4, train)
            .apply(&self.conv4)
            .apply_t(&self.bn5, train)
    }
}

#[test]
fn what_the_fields_say_is_not_folded_wrongly() {
    let (mut net, vs) = built(Staying::new);
    // With a negative scale, the largest value becomes the smallest.
    tch::no_grad(|| _ = net.bn3.ws.as_mut().unwrap().neg_());
    let xs = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let deployed = deployed(&mut net, &xs, 1e-5);
    let reasons = deployed.norms.iter().filter_map(|norm| match &norm.fate {
        NormOutcome::Left { reason } => Some(format!("{}: {reason}", norm.path)),
        _ => None,
    });
    insta::assert_snapshot!(reasons.collect::<Vec<_>>().join("\n"));
    assert_eq!(deployed.folded(), 1);
    // A layer that no visitor reaches is frozen in place, and so is its variable.
    assert!(!net.own.0.weight.requires_grad() && !net.unreached.conv.ws.requires_grad());
    let trained = |name: &str| vs.variables()[name].requires_grad();
    assert!(
        !trained("own.weight")
            && !trained("unreached.weight")
            && trained("conv.weight")
            && trained("bn5.weight")
    );
}

#[test]
fn two_inputs_and_several_outputs() {
    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    #[prune(input = (3, 3), output = (left, right))]
    struct Two {
        #[prune(from = input.0)]
        left: (own::Conv2D, own::BatchNorm),
        #[prune(from = input.1)]
        right: (own::Conv2D, own::BatchNorm),
    }
    let (mut net, _vs) = built(|p| {
        let pair = |name: &str| {
            (
                own::conv2d(p / name / 0, 3, 16, 3, Default::default()),
                own::batch_norm2d(p / name / 1, 16, Default::default()),
            )
        };
        Two { left: pair("left"), right: pair("right") }
    });
    let run = |net: &Two, [left, right]: &[Tensor; 2]| {
        let left = left.apply(&net.left.0).apply_t(&net.left.1, false);
        Tensor::cat(&[left, right.apply(&net.right.0).apply_t(&net.right.1, false)], 1)
    };
    let xs = [0, 1].map(|_| Tensor::randn([1, 3, 6, 6], (Kind::Float, Device::Cpu)));
    let before = tch::no_grad(|| run(&net, &xs));
    let deployed = deploy(&mut net, &xs, run).unwrap();
    slim_tests::check::assert_close(&run(&net, &xs), &before, 1e-5);
    assert!(deployed.layouts.iter().all(|trial| trial.out.is_none()), "{deployed}");
    assert_eq!(deployed.folded(), 2);
}

#[test]
fn latencies_are_those_of_what_is_chosen() {
    let (mut net, _vs) = built(|p| Dense::new(p));
    let xs = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let deployed = deployed(&mut net, &xs, 1e-5);
    let chosen = deployed.layouts.iter().find(|trial| trial.layout == deployed.layout).unwrap();
    assert_eq!(chosen.latency, Some(deployed.after));
    let medians = deployed.layouts.iter().filter_map(|trial| Some(trial.latency?.median));
    let fastest = medians.fold(f64::INFINITY, f64::min);
    assert!(deployed.after.median <= fastest / 0.97 && deployed.times_as_fast.median > 0.);
    let says_noise = deployed.to_string().ends_with(": within noise");
    assert_eq!(says_noise, deployed.is_within_noise());
    let last = |weight: &Tensor| weight.stride()[1] == 1 && weight.size()[1] > 1;
    assert_eq!(last(&net.conv1.ws), deployed.layout == Layout::ChannelsLast);
}
