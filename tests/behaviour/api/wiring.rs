//! Gating, coupling, tying and sizes in hand-written traces: the slimmed network still computes
//! what the masked network computes.

use slim_runtime::error::WiringError;
use slim_runtime::{Error, Flow, KeepReason, LayerKind, Prunable, Result, Slimming, Tracer};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{images, mask_by_name, randomise, values};

/// `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`, where the shortcut may lack its batch
/// norm.
#[derive(Debug)]
struct Residual {
    stem: nn::Conv2D,
    stem_bn: nn::BatchNorm,
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    shortcut: nn::Conv2D,
    shortcut_bn: Option<nn::BatchNorm>,
    gate: bool,
    last: nn::Conv2D,
}

impl Residual {
    fn new(p: &nn::Path, with_shortcut_bn: bool, gate: bool) -> Self {
        let conv =
            |name: &str, inputs, width| nn::conv2d(p / name, inputs, width, 1, nn::no_bias());
        let norm = |name: &str, width| nn::batch_norm2d(p / name, width, Default::default());
        let net = Residual {
            stem: conv("stem", 3, 6),
            stem_bn: norm("stem_bn", 6),
            conv: conv("conv", 6, 8),
            bn: norm("bn", 8),
            shortcut: conv("shortcut", 6, 8),
            shortcut_bn: with_shortcut_bn.then(|| norm("shortcut_bn", 8)),
            gate,
            last: conv("last", 8, 4),
        };
        let norms: Vec<_> = [&net.stem_bn, &net.bn].into_iter().chain(&net.shortcut_bn).collect();
        randomise(&norms);
        net
    }
}

impl ModuleT for Residual {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.stem).apply_t(&self.stem_bn, train).relu();
        let main = xs.apply(&self.conv).apply_t(&self.bn, train);
        let side = xs.apply(&self.shortcut).apply_opt_t(&self.shortcut_bn, train);
        let joined = if self.gate { main * side } else { main + side };
        joined.relu().apply(&self.last)
    }
}

impl Prunable for Residual {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = cx.field("stem", |cx| self.stem.trace(cx, input))?;
        let flow = cx.field("stem_bn", |cx| self.stem_bn.trace(cx, flow))?;
        let main = cx.field("conv", |cx| self.conv.trace(cx, flow.clone()))?;
        let main = cx.field("bn", |cx| self.bn.trace(cx, main))?;
        let side = cx.field("shortcut", |cx| self.shortcut.trace(cx, flow))?;
        let side = cx.field("shortcut_bn", |cx| self.shortcut_bn.trace(cx, side))?;
        let joined = if self.gate { cx.multiply(&main, &side)? } else { cx.add(&main, &side)? };
        cx.field("last", |cx| self.last.trace(cx, joined))
    }
}

/// Slims at several ratios and compares with the masked network.
fn assert_slimmed_is_masked(with_shortcut_bn: bool, gate: bool) {
    for ratio in [0.2, 0.5, 0.8] {
        let mut vs = VarStore::new(device());
        let mut net = Residual::new(&vs.root(), with_shortcut_bn, gate);
        vs.double();
        let images = images(2).to_kind(Kind::Double);
        let plan = net.plan(&Slimming::ratio(ratio)).unwrap();
        let before = values(&vs);
        mask_by_name(&vs, &plan);
        let masked = tch::no_grad(|| net.forward_t(&images, false));
        tch::no_grad(|| {
            vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
        });
        net.apply(&plan).unwrap();
        let slimmed = tch::no_grad(|| net.forward_t(&images, false));
        assert_close(&slimmed, &masked, 1e-9);
    }
}

#[test]
fn a_residual_stream_loses_a_channel_where_all_its_scores_are_small() {
    let vs = VarStore::new(device());
    let net = Residual::new(&vs.root(), true, false);
    crate::common::set(&net.stem_bn, &[9.; 6]);
    crate::common::set(&net.bn, &[1., 2., 3., 4., 1., 2., 3., 4.]);
    crate::common::set(net.shortcut_bn.as_ref().unwrap(), &[8., 1., 2., 1., 1., 2., 3., 9.]);
    let plan = net.plan(&Slimming::ratio(0.2)).unwrap();
    // The largest of both norms: 8, 2, 3, 4, 1, 2, 3, 9, each for two norms, and six nines. Index 4
    // of the 22 is a 2.
    assert_eq!(plan.threshold(), Some(2.));
    for path in ["conv", "bn", "shortcut", "shortcut_bn"] {
        let axis = plan.layer(path).unwrap().axes.iter().find(|axis| axis.name != "in").unwrap();
        assert_eq!(axis.keep.to_string(), "0,2-3,6-7", "{path}");
    }
    assert_eq!(plan.layer("last").unwrap().axis("in").unwrap().keep.to_string(), "0,2-3,6-7");
    assert_slimmed_is_masked(true, false);
}

#[test]
fn a_sum_with_something_that_no_scale_gates_is_kept_and_its_reader_named() {
    let vs = VarStore::new(device());
    let net = Residual::new(&vs.root(), false, false);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let scored = plan.layer("bn").unwrap().scored.clone().unwrap();
    assert_eq!(
        (scored.removable, scored.held),
        (0, Some(KeepReason::Ungated { by: "last".to_owned() }))
    );
    assert_eq!(plan.layer("bn").unwrap().axes[0].keep.len(), 8);
    assert!(plan.layer("stem_bn").unwrap().axes[0].keep.len() < 6);
    assert!(
        plan.to_string().contains("`last` reads them where no batch norm can set them to zero"),
        "{plan}"
    );
    assert_slimmed_is_masked(false, false);
}

#[test]
fn a_product_with_something_that_no_scale_gates_may_go() {
    let vs = VarStore::new(device());
    let net = Residual::new(&vs.root(), false, true);
    assert_eq!(
        net.plan(&Slimming::ratio(0.5))
            .unwrap()
            .layer("bn")
            .unwrap()
            .scored
            .clone()
            .unwrap()
            .removable,
        8
    );
    assert_slimmed_is_masked(false, true);
}

#[test]
fn widths_that_cannot_be_added_are_named() {
    let vs = VarStore::new(device());
    let mut net = Residual::new(&vs.root(), false, false);
    net.shortcut = nn::conv2d(&vs.root() / "other", 6, 5, 1, Default::default());
    let error = net.plan(&Slimming::ratio(0.5)).unwrap_err();
    insta::assert_snapshot!(error, @"`model`: `bn` (8 channels) + `shortcut` (5 channels): widths differ");
}

/// A convolution that reads another one's raw output. Without a batch norm between them, no channel
/// is removed, and the note names the consumer.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Raw {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    conv3: nn::Conv2D,
    plain: nn::BatchNorm,
    conv4: nn::Conv2D,
}

#[test]
fn channels_that_nothing_scores_stay() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv =
        |name: &str, inputs, width| nn::conv2d(p / name, inputs, width, 1, Default::default());
    let mut net = Raw {
        conv1: conv("conv1", 3, 4),
        bn1: nn::batch_norm2d(p / "bn1", 4, Default::default()),
        conv2: conv("conv2", 4, 5),
        conv3: conv("conv3", 5, 6),
        plain: nn::batch_norm2d(
            p / "plain",
            6,
            nn::BatchNormConfig { affine: false, ..Default::default() },
        ),
        conv4: conv("conv4", 6, 2),
    };
    let slimmed = net.slim(0.9).unwrap();
    assert_eq!(slimmed.cfg().to_string(), "[1, 6]");
    assert_eq!(net.conv2.ws.size(), [5, 1, 1, 1]);
    assert_eq!(net.conv3.ws.size(), [6, 5, 1, 1]);
    assert!(slimmed.plan().layer("plain").unwrap().scored.is_none());
}

/// A network that applies the same convolution twice in a row, so its output and its input have the
/// same channels.
#[derive(Debug)]
struct Shared {
    stem: nn::Conv2D,
    stem_bn: nn::BatchNorm,
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    last: nn::Conv2D,
}

impl Prunable for Shared {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = cx.field("stem", |cx| self.stem.trace(cx, input))?;
        let mut flow = cx.field("stem_bn", |cx| self.stem_bn.trace(cx, flow))?;
        for _ in 0..2 {
            flow = cx.field("conv", |cx| self.conv.trace(cx, flow))?;
            flow = cx.field("bn", |cx| self.bn.trace(cx, flow))?;
        }
        cx.field("last", |cx| self.last.trace(cx, flow))
    }
}

#[test]
fn a_layer_used_twice_is_one_layer() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let mut net = Shared {
        stem: nn::conv2d(p / "stem", 3, 6, 1, nn::no_bias()),
        stem_bn: nn::batch_norm2d(p / "stem_bn", 6, Default::default()),
        conv: nn::conv2d(p / "conv", 6, 6, 1, nn::no_bias()),
        bn: nn::batch_norm2d(p / "bn", 6, Default::default()),
        last: nn::conv2d(p / "last", 6, 2, 1, nn::no_bias()),
    };
    crate::common::set(&net.stem_bn, &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    crate::common::set(&net.bn, &[0.6, 0.1, 0.1, 0.1, 0.1, 0.1]);
    let forward = |net: &Shared, xs: &Tensor| {
        let xs = xs.apply(&net.stem).apply_t(&net.stem_bn, false).relu();
        let xs = (0..2).fold(xs, |xs, _| xs.apply(&net.conv).apply_t(&net.bn, false).relu());
        xs.apply(&net.last)
    };
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    // 12 entries, although `bn` is traced twice. The largest of both norms is 0.6, 0.2, 0.3, 0.4,
    // 0.5, 0.6.
    assert_eq!((plan.removable(), plan.threshold()), (12, Some(0.5)));
    assert_eq!(plan.parameters().before, 3 * 6 + 12 + 36 + 12 + 12);
    assert_eq!(plan.layers()[4].tensors[0].tied.as_deref(), Some("conv.weight"));
    let before = values(&vs);
    mask_by_name(&vs, &plan);
    let images = images(2);
    let masked = forward(&net, &images);
    tch::no_grad(|| {
        vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
    });
    net.apply(&plan).unwrap();
    assert_eq!(net.conv.ws.size(), [2, 2, 1, 1]);
    assert_close(&forward(&net, &images), &masked, rounding(&vs));
}

#[test]
fn memory_that_two_tensors_share_is_refused_and_the_model_is_as_it_was() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let bn = nn::batch_norm2d(p / "bn", 6, Default::default());
    let mut twin = nn::batch_norm2d(p / "twin", 6, Default::default());
    twin.running_mean = bn.running_mean.detach();
    let mut net = (
        nn::conv2d(p / "conv", 3, 6, 1, nn::no_bias()),
        bn,
        twin,
        nn::conv2d(p / "last", 6, 2, 1, nn::no_bias()),
    );
    let before = values(&vs);
    let error = net.slim(0.5).unwrap_err();
    assert!(
        matches!(&error, Error::Wiring(WiringError::NotShared { owner, .. }) if owner == "1.running_mean"),
        "{error}"
    );
    crate::common::assert_same(&values(&vs), &before);
    assert_eq!(net.2.running_mean.size(), [6]);
}

#[test]
fn concatenated_streams_shrink_by_themselves() {
    #[derive(Debug)]
    struct Concat(nn::Conv2D, nn::BatchNorm, nn::Conv2D, nn::BatchNorm, nn::Linear);
    impl Prunable for Concat {
        fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
            let input = cx.expect_input(&input, 3)?;
            let a = cx.field("0", |cx| self.0.trace(cx, input.clone()))?;
            let a = cx.field("1", |cx| self.1.trace(cx, a))?;
            let b = cx.field("2", |cx| self.2.trace(cx, input.clone()))?;
            let b = cx.field("3", |cx| self.3.trace(cx, b))?;
            let both = cx.concat(&[a, input, b])?;
            let both = cx.flatten(&both, 2)?;
            cx.field("4", |cx| self.4.trace(cx, both))
        }
    }
    let vs = VarStore::new(device());
    let p = &vs.root();
    let mut net = Concat(
        nn::conv2d(p / 0, 3, 4, 1, nn::no_bias()),
        nn::batch_norm2d(p / 1, 4, Default::default()),
        nn::conv2d(p / 2, 3, 4, 1, nn::no_bias()),
        nn::batch_norm2d(p / 3, 4, Default::default()),
        nn::linear(p / 4, (4 + 3 + 4) * 2, 2, Default::default()),
    );
    crate::common::set(&net.1, &[1., 8., 7., 2.]);
    crate::common::set(&net.3, &[6., 3., 4., 5.]);
    let slimmed = net.slim(0.5).unwrap();
    assert_eq!(slimmed.cfg().to_string(), "[2, 1]");
    assert_eq!(slimmed.plan().layer("4").unwrap().axis("in").unwrap().keep.to_string(), "2-5,8-15");
}

#[test]
fn a_grouped_convolution_of_tchs_slims_again_and_again() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let grouped = nn::ConvConfig { groups: 2, bias: false, ..Default::default() };
    let mut net = (
        nn::conv2d(p / 0, 3, 8, 1, nn::no_bias()),
        nn::batch_norm2d(p / 1, 8, Default::default()),
        nn::conv2d(p / 2, 8, 8, 1, grouped),
        nn::batch_norm2d(p / 3, 8, Default::default()),
        nn::conv2d(p / 4, 8, 2, 1, nn::no_bias()),
    );
    for ratio in [0.5, 0.9, 0.9] {
        net.slim(ratio).unwrap();
        // With one channel in each group, the convolution would be taken for a depthwise one.
        assert!(net.2.ws.size()[1] >= 2);
        assert_eq!(
            images(1)
                .apply(&net.0)
                .apply_t(&net.1, false)
                .apply(&net.2)
                .apply_t(&net.3, false)
                .apply(&net.4)
                .size()[1],
            2
        );
    }
}

#[test]
fn a_trace_that_confuses_axes_is_refused() {
    #[derive(Debug)]
    struct Confused(Tensor, bool);
    impl Prunable for Confused {
        fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
            let foreign = cx.layer(LayerKind::other("first")).follow("channels", &input, 3)?;
            let mut layer = cx.layer(LayerKind::other("second"));
            let own = layer.follow("channels", &input, 3)?;
            if self.1 {
                layer.follow("channels", &input, 3)?;
            }
            layer.parameter("scale", &self.0, &[(0, foreign)])?;
            layer.pass(own)
        }
    }
    let vs = VarStore::new(device());
    let error = |twice| {
        Confused(vs.root().ones("scale", &[3]), twice).plan(&Slimming::ratio(0.5)).unwrap_err()
    };
    insta::assert_snapshot!(error(false), @"`model`: it uses an axis of another layer");
    insta::assert_snapshot!(error(true), @"`model`: it has the axis `channels` twice");
}

#[test]
fn a_gamma_that_two_norms_share_counts_once_and_both_shifts_are_masked() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv = |name: &str, i, o| nn::conv2d(p / name, i, o, 1, nn::no_bias());
    let mut net = (
        conv("0", 3, 6),
        nn::batch_norm2d(p / "1", 6, Default::default()),
        conv("2", 6, 6),
        nn::batch_norm2d(p / "3", 6, Default::default()),
        conv("4", 6, 2),
    );
    randomise(&[&net.1, &net.3]);
    net.3.ws = net.1.ws.as_ref().map(Tensor::shallow_clone);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!((plan.removable(), plan.channels().before), (6, 6));
    let forward = |net: &(nn::Conv2D, nn::BatchNorm, nn::Conv2D, nn::BatchNorm, nn::Conv2D),
                   xs: &Tensor| {
        let xs = xs.apply(&net.0).apply_t(&net.1, false).relu();
        xs.apply(&net.2).apply_t(&net.3, false).relu().apply(&net.4)
    };
    let images = images(2);
    net.mask(&plan).unwrap();
    let masked = forward(&net, &images);
    net.apply(&plan).unwrap();
    assert_eq!(net.2.ws.size(), [2, 2, 1, 1]);
    assert_close(&forward(&net, &images), &masked, rounding(&vs));
}

#[test]
fn a_tied_dimension_that_one_place_leaves_free_is_held() {
    /// The weight of `fc` is used a second time, where its dimensions follow no axis.
    #[derive(Debug)]
    struct Tied(nn::Conv2D, nn::BatchNorm, nn::Conv2D);
    impl Prunable for Tied {
        fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
            let flow = cx.field(0, |cx| self.0.trace(cx, input))?;
            let flow = cx.field(1, |cx| self.1.trace(cx, flow))?;
            let flow = cx.field(2, |cx| self.2.trace(cx, flow))?;
            cx.field("again", |cx| {
                let mut layer = cx.layer(LayerKind::other("penalty"));
                layer.parameter("weight", &self.2.ws, &[])
            })?;
            Ok(flow)
        }
    }
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv = |name: &str, i, o| nn::conv2d(p / name, i, o, 1, nn::no_bias());
    let net =
        Tied(conv("a", 3, 4), nn::batch_norm2d(p / "b", 4, Default::default()), conv("c", 4, 2));
    let error = net.plan(&Slimming::ratio(0.5)).unwrap_err();
    assert!(error.to_string().contains("`again` shares its weight"), "{error}");
}
