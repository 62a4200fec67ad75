//! Least-squares reconstruction: against libtorch's `lstsq`, residuals as they are measured, and
//! all or nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_runtime::criterion::L2;
use slim_runtime::error::{ArgumentError, CheckError};
use slim_runtime::{Error, Plan, Prunable, Reconstruction, Slimming, model, nn as own};
use slim_tests::device;
use slim_tests::fill::fill;
use slim_zoo::preresnet::PreResNet;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{assert_same, values};

model! {
    /// Each way in which a layer holds a constant: a bias, the batch norm behind, neither.
    #[derive(Debug)]
    struct Chain {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        relu;
        conv2 = conv2d(8 => 9, kernel = 3, stride = 2, padding = 1, bias = true);
        bn2 = batch_norm(9);
        relu;
        conv3 = conv2d(9 => 7, kernel = 3, padding = 2, dilation = 2, bias = false);
        bn3 = batch_norm(7);
        relu;
        conv4 = conv2d(7 => 6, kernel = 1, bias = false);
        relu;
        max_pool(2);
        flatten;
        fc = linear(6 * 4 => 5);
    }
}

model! {
    /// Two convolutions make one sum, a flatten spreads its channels over positions.
    #[derive(Debug)]
    struct Residual {
        conv1 = conv2d(3 => 6, kernel = 3, padding = 1, bias = true);
        bn1 = batch_norm(6);
        a = relu;
        conv2 = conv2d(6 => 8, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(8);
        relu;
        conv3 = conv2d(8 => 6, kernel = 3, padding = 1, bias = false);
        bn3 = batch_norm(6);
        bn3 + a;
        relu;
        max_pool(2);
        flatten;
        fc = linear(6 * 16 => 5);
    }
}

fn filled<M>(new: impl FnOnce(&VarStore) -> M) -> (M, VarStore) {
    let mut vs = VarStore::new(device());
    let net = new(&vs);
    fill(&vs);
    vs.double();
    (net, vs)
}

fn batches(side: i64) -> Vec<Tensor> {
    tch::manual_seed(5);
    // More rows than a linear layer has columns, where images are small.
    let samples = if side > 8 { [12, 8] } else { [160, 100] };
    samples.map(|n| Tensor::randn([n, 3, side, side], (Kind::Double, device()))).into()
}

fn run<M: ModuleT>(net: &M, images: &Tensor) -> Tensor {
    net.forward_t(images, false)
}

type Values = BTreeMap<String, Tensor>;

/// Input and output of each consumer of [`Chain`], by its formula.
fn consumers(values: &Values, images: &Tensor) -> BTreeMap<&'static str, [Tensor; 2]> {
    let of = |name: &str| values.get(name);
    let conv = |xs: &Tensor, name: &str, stride: i64, padding: i64, dilation: i64| {
        let weight = &values[&format!("{name}.weight")];
        let bias = of(&format!("{name}.bias"));
        xs.conv2d(weight, bias, [stride; 2], [padding; 2], [dilation; 2], 1)
    };
    let norm = |xs: &Tensor, name: &str| {
        let [weight, bias, mean, var] = ["weight", "bias", "running_mean", "running_var"]
            .map(|tensor| values[&format!("{name}.{tensor}")].view([1, -1, 1, 1]));
        (xs - mean) / (var + 1e-5).sqrt() * weight + bias
    };
    let first = norm(&conv(images, "conv1", 1, 1, 1), "bn1").relu();
    let second = conv(&first, "conv2", 2, 1, 1);
    let third_in = norm(&second, "bn2").relu();
    let third = conv(&third_in, "conv3", 1, 2, 2);
    let fourth_in = norm(&third, "bn3").relu();
    let fourth = conv(&fourth_in, "conv4", 1, 0, 1);
    BTreeMap::from([
        ("conv2", [first, second]),
        ("conv3", [third_in, third]),
        ("conv4", [fourth_in, fourth]),
    ])
}

fn positions(plan: &Plan, path: &str, axis: &str) -> Tensor {
    let keep = &plan.layer(path).unwrap().axis(axis).unwrap().keep;
    Tensor::from_slice(&keep.iter().map(|at| at as i64).collect::<Vec<_>>()).to_device(device())
}

/// The values of the masked network, with `conv2`, `conv3` and `conv4` solved by `lstsq`, in dense
/// shapes.
fn solved_by_lstsq(dense: &Values, plan: &Plan, images: &Tensor) -> Values {
    let mut masked: Values =
        dense.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    for norm in ["bn1", "bn2", "bn3"] {
        let keep = positions(plan, norm, "channels");
        for name in ["weight", "bias"] {
            let name = format!("{norm}.{name}");
            let kept = masked[&name].index_select(0, &keep);
            let zeros = masked[&name].zeros_like();
            masked.insert(name, zeros.index_copy(0, &keep, &kept));
        }
    }
    for (path, norm, stride, padding, dilation) in
        [("conv2", "bn2", 2, 1, 1), ("conv3", "bn3", 1, 2, 2), ("conv4", "", 1, 0, 1)]
    {
        let weight = masked[&format!("{path}.weight")].shallow_clone();
        let (out, inputs) = (positions(plan, path, "out"), positions(plan, path, "in"));
        let kernel = weight.size()[2];
        let xs = consumers(&masked, images)[path][0].index_select(1, &inputs);
        let xs = xs.im2col([kernel; 2], [dilation; 2], [padding; 2], [stride; 2]);
        let mut xs = xs.transpose(1, 2).flatten(0, 1);
        let target = consumers(dense, images)[path][1].index_select(1, &out);
        let target = target.flatten(2, -1).transpose(1, 2).flatten(0, 1);
        let columns = xs.size()[1];
        if path != "conv4" {
            let ones = Tensor::ones([xs.size()[0], 1], (Kind::Double, device()));
            xs = Tensor::cat(&[xs, ones], 1);
        }
        let (solution, ..) = xs.linalg_lstsq(&target, None, "gels");
        let new = solution.narrow(0, 0, columns).transpose(0, 1);
        let new = new.view([out.size()[0], inputs.size()[0], kernel, kernel]);
        let rows = weight.index_select(0, &out).index_copy(1, &inputs, &new);
        masked.insert(format!("{path}.weight"), weight.index_copy(0, &out, &rows));
        if path == "conv2" {
            let name = format!("{path}.bias");
            let bias = masked[&name].index_copy(0, &out, &solution.get(columns));
            masked.insert(name, bias);
        } else if path == "conv3" {
            let name = format!("{norm}.running_mean");
            let mean = masked[&name].index_select(0, &out) - solution.get(columns);
            let mean = masked[&name].index_copy(0, &out, &mean);
            masked.insert(name, mean);
        }
    }
    masked
}

#[test]
fn without_a_ridge_weights_biases_and_running_means_are_those_of_lstsq() {
    let (mut net, vs) = filled(|vs| Chain::new(vs.root()));
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    let (dense, batches) = (values(&vs), batches(8));
    let wanted = solved_by_lstsq(&dense, &plan, &Tensor::cat(&batches, 0));
    let done = Reconstruction::new().ridge(0.).apply(&mut net, &plan, &batches, run).unwrap();
    assert_eq!(
        done.layers.iter().map(|layer| layer.path.as_str()).collect::<Vec<_>>(),
        ["conv2", "conv3", "conv4"]
    );
    assert_eq!(done.left, []);
    let found = values(&vs);
    for path in ["conv2", "conv3", "conv4"] {
        let kept = wanted[&format!("{path}.weight")]
            .index_select(0, &positions(&plan, path, "out"))
            .index_select(1, &positions(&plan, path, "in"));
        close(&found[&format!("{path}.weight")], &kept, path);
    }
    close(
        &found["conv2.bias"],
        &wanted["conv2.bias"].index_select(0, &positions(&plan, "conv2", "out")),
        "bias",
    );
    let kept = positions(&plan, "bn3", "channels");
    close(&found["bn3.running_mean"], &wanted["bn3.running_mean"].index_select(0, &kept), "mean");
}

fn close(found: &Tensor, wanted: &Tensor, what: &str) {
    let error = (found - wanted).norm().double_value(&[]) / wanted.norm().double_value(&[]);
    assert!(error < 1e-8, "{what} differs by {error}");
}

/// The distance of two outputs, relative to the second.
fn distance<M: ModuleT>(net: &M, batches: &[Tensor], dense: &[Tensor]) -> f64 {
    let outputs: Vec<_> = batches.iter().map(|images| run(net, images)).collect();
    let (outputs, dense) = (Tensor::cat(&outputs, 0), Tensor::cat(dense, 0));
    ((outputs - &dense).norm() / dense.norm()).double_value(&[])
}

/// Slims two networks of one kind, one with reconstruction: returns the residuals of the last layer
/// as they are reported and as they are measured, and the error without reconstruction.
fn last_residual<M: Prunable + ModuleT>(
    new: impl Fn(&VarStore) -> M,
    slimming: &Slimming,
    side: i64,
    ridge: f64,
) -> [f64; 3] {
    let (mut net, _vs) = filled(&new);
    let (mut plain, _plain_vs) = filled(&new);
    let batches = batches(side);
    let dense: Vec<_> = batches.iter().map(|images| run(&net, images)).collect();
    let plan = net.plan(slimming).unwrap();
    plain.apply(&plan).unwrap();
    let done = Reconstruction::new().ridge(ridge).apply(&mut net, &plan, &batches, run).unwrap();
    for layer in &done.layers {
        assert!(layer.after <= layer.before, "{layer:?}");
    }
    let last = done.layers.last().unwrap();
    assert!(last.path.ends_with("fc"), "{last:?}");
    [last.after, distance(&net, &batches, &dense), distance(&plain, &batches, &dense)]
}

#[test]
fn the_residual_that_is_reported_is_that_of_the_slimmed_network() {
    let check = |[reported, measured, plain]: [f64; 3]| {
        // The squares are differences of sums.
        assert!((reported - measured).abs() < 1e-7, "{reported}, not {measured}");
        assert!(measured < 0.8 * plain, "{plain} without, {measured} with reconstruction");
    };
    let residual = |vs: &VarStore| Residual::new(vs.root());
    for ridge in [0., 1e-3, 0.1] {
        check(last_residual(residual, &Slimming::ratio(0.3), 8, ridge));
        // All parameters of a removed channel are masked, also the rows of a consumer.
        check(last_residual(residual, &Slimming::ratio(0.3).criterion(L2), 8, ridge));
    }
    let resnet = |vs: &VarStore| PreResNet::new(vs.root(), 11, 5).unwrap();
    check(last_residual(resnet, &Slimming::ratio(0.3), 32, 1e-4));
}

#[test]
fn a_large_ridge_leaves_the_weights_as_plain_slimming_has_them() {
    let (mut net, vs) = filled(|vs| Residual::new(vs.root()));
    let (mut plain, plain_vs) = filled(|vs| Residual::new(vs.root()));
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    plain.apply(&plan).unwrap();
    Reconstruction::new().ridge(1e12).apply(&mut net, &plan, &batches(8), run).unwrap();
    let (found, wanted) = (values(&vs), values(&plain_vs));
    for name in ["conv2.weight", "conv3.weight", "fc.weight"] {
        close(&found[name], &wanted[name], name);
    }
}

#[test]
fn single_precision_comes_near_double() {
    let solved = |kind: Kind| {
        let mut vs = VarStore::new(device());
        let mut net = Residual::new(vs.root());
        fill(&vs);
        vs.set_kind(kind);
        let plan = net.plan(&Slimming::ratio(0.3)).unwrap();
        let batches: Vec<_> = batches(8).iter().map(|images| images.to_kind(kind)).collect();
        Reconstruction::new().apply(&mut net, &plan, &batches, run).unwrap();
        run(&net, &batches[0]).to_kind(Kind::Double)
    };
    let (single, double) = (solved(Kind::Float), solved(Kind::Double));
    let error = ((single - &double).norm() / double.norm()).double_value(&[]);
    assert!(error < 1e-4, "{error}");
}

#[test]
fn inputs_far_from_zero_keep_their_digits_in_single_precision() {
    let residual = |kind: Kind| {
        let mut vs = VarStore::new(device());
        let mut net = Residual::new(vs.root());
        fill(&vs);
        vs.set_kind(kind);
        // What `fc` reads has a mean of some thousands and a deviation of some units.
        let _ = tch::no_grad(|| vs.variables()["bn3.bias"].shallow_clone().g_add_scalar_(3e3));
        let plan = net.plan(&Slimming::ratio(0.3)).unwrap();
        let batches: Vec<_> = batches(8).iter().map(|images| images.to_kind(kind)).collect();
        let dense: Vec<_> = batches.iter().map(|images| run(&net, images)).collect();
        let mean = Tensor::cat(&dense, 0).mean_dim(0, true, None);
        let centred: Vec<_> = dense.iter().map(|outputs| outputs - &mean).collect();
        Reconstruction::new().apply(&mut net, &plan, &batches, run).unwrap();
        let outputs: Vec<_> = batches.iter().map(|images| run(&net, images) - &mean).collect();
        let (outputs, centred) = (Tensor::cat(&outputs, 0), Tensor::cat(&centred, 0));
        ((outputs - &centred).norm() / centred.norm()).double_value(&[])
    };
    let (single, double) = (residual(Kind::Float), residual(Kind::Double));
    assert!(single < 1.5 * double + 1e-2, "{single} in single, {double} in double precision");
}

#[test]
fn inputs_that_repeat_each_other_are_solved_without_a_ridge() {
    let (mut net, vs) = filled(|vs| Chain::new(vs.root()));
    // Channels 1 to 3 of the first convolution are copies of channel 0, and channel 7 is dead.
    tch::no_grad(|| {
        for (name, tensor) in vs.variables() {
            if name.starts_with("conv1.") || name.starts_with("bn1.") {
                for channel in 1..4 {
                    tensor.get(channel).copy_(&tensor.get(0));
                }
            }
        }
        let _ = vs.variables()["bn1.bias"].get(7).fill_(-1e3);
        let scale = Tensor::from_slice(&[0.9, 0.9, 0.9, 0.9, 0.01, 0.02, 0.03, 0.8]);
        vs.variables()["bn1.weight"].shallow_clone().copy_(&scale);
    });
    let plan = net.plan(&Slimming::ratio(0.2)).unwrap();
    let done = Reconstruction::new().ridge(0.).apply(&mut net, &plan, &batches(8), run).unwrap();
    assert!(done.layers.iter().all(|layer| layer.after <= layer.before), "{done}");
    let largest = vs.variables()["conv2.weight"].abs().max().double_value(&[]);
    assert!(largest < 1e3, "weights of {largest}");
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Mixed {
    conv1: own::Conv2D,
    bn1: own::BatchNorm,
    grouped: own::Conv2D,
    bn2: own::BatchNorm,
    tchs: nn::Conv2D,
    bn3: own::BatchNorm,
    conv4: own::Conv2D,
}

impl Mixed {
    fn new(p: &nn::Path) -> Self {
        let grouped = own::ConvConfig { groups: 2, ..Default::default() };
        Mixed {
            conv1: own::conv2d(p / "conv1", 3, 8, 3, Default::default()),
            bn1: own::batch_norm2d(p / "bn1", 8, Default::default()),
            grouped: own::conv2d(p / "grouped", 8, 8, 1, grouped),
            bn2: own::batch_norm2d(p / "bn2", 8, Default::default()),
            tchs: nn::conv2d(p / "tchs", 8, 8, 1, Default::default()),
            bn3: own::batch_norm2d(p / "bn3", 8, Default::default()),
            conv4: own::conv2d(p / "conv4", 8, 4, 1, Default::default()),
        }
    }
}

impl ModuleT for Mixed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.grouped).apply_t(&self.bn2, train).relu();
        xs.apply(&self.tchs).apply_t(&self.bn3, train).relu().apply(&self.conv4)
    }
}

#[test]
fn layers_that_are_left_are_said_with_the_reason() {
    let (mut net, _vs) = filled(|vs| Mixed::new(&vs.root()));
    let plan = net.plan(&Slimming::ratio(0.4).local()).unwrap();
    let done = Reconstruction::new().apply(&mut net, &plan, &batches(8), run).unwrap();
    assert_eq!(done.layers.len(), 1);
    insta::assert_snapshot!(done.to_string().lines().skip(1).collect::<Vec<_>>().join("\n"), @r"
    grouped: left, grouped convolutions are not solved
    tchs: left, it is tch's own, which does not report what it reads; build it with `slim_runtime::nn::conv2d` (same signature)
    ");
}

/// Asserts that an attempt is refused with this text, and changes nothing.
fn refused<X>(
    batches: &[X],
    reconstruction: Reconstruction,
    forward: impl Fn(&Chain, &X) -> Tensor,
) -> Error {
    let (mut net, vs) = filled(|vs| Chain::new(vs.root()));
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    let before = values(&vs);
    let error = reconstruction.apply(&mut net, &plan, batches, forward).unwrap_err();
    assert_same(&values(&vs), &before);
    assert_eq!(net.plan(&Slimming::ratio(0.4)).unwrap(), plan);
    error
}

#[test]
fn what_cannot_be_is_refused_and_leaves_the_model_as_it_was() {
    let new = Reconstruction::new;
    let nan =
        [batches(8).swap_remove(0), Tensor::full([2, 3, 8, 8], f64::NAN, (Kind::Double, device()))];
    let calls = Cell::new(0);
    let texts = [
        refused(&batches(8), new().ridge(-1.), run),
        refused(&batches(8), new().ridge(f64::NAN), run),
        refused(&[] as &[Tensor], new(), run),
        refused(&nan, new(), run),
        refused(&batches(8), new(), |net, images| net.forward_t(images, true)),
        // Another batch on each call.
        refused(&batches(8), new(), |net, images| {
            calls.set(calls.get() + 1);
            run(net, &images.narrow(0, 0, 1 + calls.get() % 5))
        }),
        refused(&batches(8), new(), |_, images| images.shallow_clone()),
    ];
    assert!(matches!(texts[0], Error::Argument(ArgumentError::Ridge(_))));
    assert!(matches!(texts[2], Error::Check(CheckError::Reconstruction { .. })));
    insta::assert_snapshot!(texts.map(|error| error.to_string()).join("\n"), @r"
    ridge -1: it must be finite and not negative, for instance 1e-3, or 0 for plain least squares
    ridge NaN: it must be finite and not negative, for instance 1e-3, or 0 for plain least squares
    cannot reconstruct `model`: no batch was given; give some hundred samples that are like those at inference, and are preprocessed like them
    cannot reconstruct `conv2`: its inputs or outputs are not finite on these batches; look for NaN or infinity in the data and the weights
    the closure changed `bn1.running_mean`, so it runs the network in training mode; call its forward pass with `train = false`
    cannot reconstruct `conv2`: `forward` calls it in another way each time; run the same layers, without random choices
    cannot reconstruct `conv2`: no call of it was reported: `forward` does not run it in evaluation mode, or runs it in its own code; no other layer can be solved either
    ");
}

#[test]
fn a_forward_that_panics_at_any_call_leaves_the_model_as_it_was() {
    for last in [0, 1, 3, 6, 9] {
        let (mut net, vs) = filled(|vs| Chain::new(vs.root()));
        let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
        let before = values(&vs);
        let calls = Cell::new(0);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let forward = |net: &Chain, images: &Tensor| {
                assert!(calls.get() < last, "at the end");
                calls.set(calls.get() + 1);
                run(net, images)
            };
            Reconstruction::new().apply(&mut net, &plan, &batches(8), forward)
        }));
        assert!(caught.is_err());
        assert_same(&values(&vs), &before);
    }
}

#[test]
fn a_plan_that_absorbs_is_reconstructed_instead() {
    let apply = |slimming: Slimming| {
        let (mut net, vs) = filled(|vs| Residual::new(vs.root()));
        let plan = net.plan(&slimming).unwrap();
        let done = Reconstruction::new().apply(&mut net, &plan, &batches(8), run).unwrap();
        assert_eq!(done.slimmed.absorbed(), []);
        values(&vs)
    };
    assert_same(&apply(Slimming::ratio(0.4)), &apply(Slimming::ratio(0.4).absorb()));
}
