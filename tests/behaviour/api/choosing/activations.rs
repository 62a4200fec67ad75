//! The criterion that ranks by mean activations, compared with what the layers output.

use slim_runtime::criterion::{Activations, MeanActivation};
use slim_runtime::error::CheckError;
use slim_runtime::{Error, Plan, Prunable, Slimming, forward, nn};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use super::coupled::{Coupled, assert_close, batch, coupled, doubles, scores};

/// What each layer outputs in the forward pass of `Coupled`, computed beside it.
fn outputs(net: &Coupled, xs: &Tensor) -> Vec<(&'static str, Tensor)> {
    let stem = xs.apply(&net.stem);
    let bn_stem = stem.apply_t(&net.bn_stem, false);
    let bn_inner = bn_stem.relu().apply(&net.inner).apply_t(&net.bn_inner, false);
    let bn_sum = (&stem + bn_inner.relu().apply(&net.outer)).apply_t(&net.bn_sum, false);
    let deep = bn_sum.relu().apply(&net.depthwise).apply_t(&net.bn_depthwise, false);
    let ends = [deep.relu().apply(&net.grouped), bn_sum.relu(), deep.relu().apply(&net.up)];
    let bn_cat = Tensor::cat(&ends, 1).apply_t(&net.bn_cat, false);
    let named = ["bn_stem", "bn_inner", "bn_sum", "bn_depthwise", "bn_cat"];
    named.into_iter().zip([bn_stem, bn_inner, bn_sum, deep, bn_cat]).collect()
}

/// The mean of the absolute values of each channel.
fn mean_magnitudes(images: &Tensor) -> Vec<f64> {
    let channels = images.size()[1];
    let mean = |channel| {
        let values = doubles(&images.select(1, channel));
        values.iter().map(|value| value.abs()).sum::<f64>() / values.len() as f64
    };
    (0..channels).map(mean).collect()
}

#[test]
fn mean_activations_are_those_of_all_samples_and_positions() {
    let (net, _vs) = coupled();
    // Batches of unlike sizes, which a mean of means would weight alike.
    let batches = [batch().narrow(0, 0, 3), batch().narrow(0, 3, 1)];
    let record = |net: &Coupled| {
        Activations::record(net, &batches, |net, xs| net.forward_t(xs, false)).unwrap()
    };
    let activations = record(&net);
    assert_eq!(activations.batches(), 2);
    let slimming = Slimming::ratio(0.5).criterion(MeanActivation::new(activations.clone()));
    let found = scores(&net, &slimming);
    // Every convolution has a batch norm behind it, which is ranked in its place.
    assert_eq!(found.len(), 5, "{:?}", found.keys());
    for (path, output) in outputs(&net, &batch()) {
        assert_close(path, &found[path], &mean_magnitudes(&output));
        assert_eq!(activations.of(path).unwrap(), found[path]);
    }
    assert_eq!(activations.of("fc").unwrap().len(), 5);

    // A file has no activations: they are enough for the plan, and not for another.
    let plan = net.plan(&slimming).unwrap();
    let read = Plan::from_json(&plan.to_json().unwrap()).unwrap();
    assert_eq!(read, plan);
    let error = net.plan(read.slimming()).unwrap_err();
    insta::assert_snapshot!(error, @"no mean activations of `bn_stem`: no output of it was recorded; build it with `slim_runtime::nn::batch_norm2d` (or `batch_norm1d`, `batch_norm3d`), since tch's own reports none, and record the network that is ranked with `Activations::record`");
    // Activations of a network with other widths are no scores.
    let mut slimmed = coupled().0;
    slimmed.apply(&plan).unwrap();
    assert!(matches!(slimmed.plan(&slimming), Err(Error::Check(CheckError::Activations { .. }))));
}

/// A network without batch norms: an image without a batch dimension, features, and a layer that
/// runs twice.
#[derive(Debug, Prunable)]
struct Unnormed {
    conv: nn::Conv2D,
    fc1: nn::Linear,
    twice: nn::Linear,
    fc2: nn::Linear,
}

#[forward]
impl ModuleT for Unnormed {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).relu().flatten(1, -1).apply(&self.fc1).relu();
        xs.apply(&self.twice).relu().apply(&self.twice).relu().apply(&self.fc2)
    }
}

#[test]
fn without_batch_norms_the_outputs_of_filters_count() {
    let mut vs = VarStore::new(device());
    let p = &vs.root();
    let net = Unnormed {
        conv: nn::conv2d(p / "conv", 3, 4, 3, Default::default()),
        fc1: nn::linear(p / "fc1", 4 * 16, 6, Default::default()),
        twice: nn::linear(p / "twice", 6, 6, Default::default()),
        fc2: nn::linear(p / "fc2", 6, 2, Default::default()),
    };
    fill(&vs);
    vs.double();
    let forward = |net: &Unnormed, xs: &Tensor| net.forward_t(xs, false);
    let activations = Activations::record(&net, [batch()], forward).unwrap();
    let found = scores(&net, &Slimming::ratio(0.5).criterion(MeanActivation::new(activations)));
    let conv = batch().apply(&net.conv);
    let fc1 = conv.relu().flatten(1, -1).apply(&net.fc1);
    let once = fc1.relu().apply(&net.twice);
    let twice = Tensor::cat(&[&once, &once.relu().apply(&net.twice)], 0);
    for (path, output) in [("conv", conv), ("fc1", fc1), ("twice", twice)] {
        assert_close(path, &found[path], &mean_magnitudes(&output));
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn layers_that_report_no_output_are_named_with_their_drop_in() {
    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    struct Tchs {
        conv: tch::nn::Conv2D,
        bn: Option<tch::nn::BatchNorm>,
        head: nn::Conv2D,
    }
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv = || tch::nn::conv2d(p / "conv", 3, 4, 1, Default::default());
    let head = || nn::conv2d(p / "head", 4, 2, 1, Default::default());
    let bn = tch::nn::batch_norm2d(p / "bn", 4, Default::default());
    let normed = Tchs { conv: conv(), bn: Some(bn), head: head() };
    let bare = Tchs { conv: conv(), bn: None, head: head() };
    let images = images(&[1, 3, 4, 4]).to_device(device());
    let rank =
        |net: &dyn Fn() -> slim_runtime::Result<Activations>| MeanActivation::new(net().unwrap());
    let by_norm = rank(&|| {
        Activations::record(&normed, [&images], |net, xs| {
            xs.apply(&net.conv).apply_t(net.bn.as_ref().unwrap(), false).apply(&net.head)
        })
    });
    let by_filter = rank(&|| {
        Activations::record(&bare, [&images], |net, xs| xs.apply(&net.conv).apply(&net.head))
    });
    let none = Activations::record(&bare, [&images], |net, xs| xs.apply(&net.conv));
    let no_batch = Activations::record(&bare, [&images; 0], |net, xs| xs.apply(&net.conv));
    let half = || Slimming::ratio(0.5);
    let errors = [
        normed.plan(&half().criterion(by_norm)).unwrap_err(),
        bare.plan(&half().criterion(by_filter)).unwrap_err(),
        none.unwrap_err(),
        no_batch.unwrap_err(),
    ];
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"), @"
    no mean activations of `bn`: no output of it was recorded; build it with `slim_runtime::nn::batch_norm2d` (or `batch_norm1d`, `batch_norm3d`), since tch's own reports none, and record the network that is ranked with `Activations::record`
    no mean activations of `conv`: it is tch's own, which does not report its output; build it with `slim_runtime::nn::conv2d` (same signature)
    no mean activations of `conv`: it is tch's own, which does not report its output; build it with `slim_runtime::nn::conv2d` (same signature)
    no mean activations of `model`: no batch was given; give some hundred samples that are like those at inference
    ");
}
