//! Running statistics estimated again, against sums by hand; and all or nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_runtime::error::SelectionError;
use slim_runtime::{
    Error, Flow, LayerVisitor, Prunable, Result, Tracer, nn as own, recalibrate, recalibrated,
};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{assert_same, values};

/// A network with tch's batch norms, whose momentum is private, and one of the drop-ins.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Net {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: own::BatchNorm,
    fc: nn::Linear,
    bn3: nn::BatchNorm,
}

const MOMENTA: [f64; 3] = [0.1, 0.37, 1.];

impl Net {
    fn new(p: &nn::Path) -> Self {
        let [first, second, third] =
            MOMENTA.map(|momentum| nn::BatchNormConfig { momentum, ..Default::default() });
        Net {
            conv1: nn::conv2d(p / "conv1", 3, 6, 3, Default::default()),
            bn1: nn::batch_norm2d(p / "bn1", 6, first),
            conv2: nn::conv2d(p / "conv2", 6, 4, 3, Default::default()),
            bn2: own::batch_norm2d(p / "bn2", 4, second),
            fc: nn::linear(p / "fc", 16, 5, Default::default()),
            bn3: nn::batch_norm1d(p / "bn3", 5, third),
        }
    }

    /// The inputs of the batch norms in training mode.
    fn inputs(&self, xs: &Tensor) -> [Tensor; 3] {
        let first = xs.apply(&self.conv1);
        let second = normalised(&first, self.bn1.ws.as_ref(), self.bn1.bs.as_ref())
            .relu()
            .apply(&self.conv2);
        let third = normalised(&second, self.bn2.ws.as_ref(), self.bn2.bs.as_ref())
            .relu()
            .flatten(1, -1)
            .apply(&self.fc);
        [first, second, third]
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        xs.flatten(1, -1).apply(&self.fc).apply_t(&self.bn3, train)
    }
}

/// The mean and the variance of each channel over all other dimensions.
fn moments(xs: &Tensor, unbiased: bool) -> [Tensor; 2] {
    let by_channel = xs.transpose(0, 1).flatten(1, -1);
    [by_channel.mean_dim(1, false, None), by_channel.var_dim(1, unbiased, false)]
}

fn normalised(xs: &Tensor, gamma: Option<&Tensor>, beta: Option<&Tensor>) -> Tensor {
    let shape: Vec<i64> = (0..xs.dim()).map(|dim| if dim == 1 { -1 } else { 1 }).collect();
    let wide = |tensor: &Tensor| tensor.view(&shape[..]);
    let [mean, var] = moments(xs, false);
    (xs - wide(&mean)) / (wide(&var) + 1e-5).sqrt() * wide(gamma.unwrap()) + wide(beta.unwrap())
}

fn net(kind: Kind) -> (Net, VarStore) {
    tch::set_num_threads(1);
    let mut vs = VarStore::new(device());
    let net = Net::new(&vs.root());
    slim_tests::fill::fill(&vs);
    vs.set_kind(kind);
    (net, vs)
}

/// Batches of different sizes, with statistics far from those of the network.
fn batches(kind: Kind) -> Vec<Tensor> {
    [8, 5, 3]
        .map(|n| {
            (Tensor::randn([n, 3, 6, 6], (Kind::Double, device())) * 2. + n as f64).to_kind(kind)
        })
        .into()
}

fn statistics(net: &Net) -> [[Tensor; 2]; 3] {
    let pair = |mean: &Tensor, var: &Tensor| [mean.copy(), var.copy()];
    [
        pair(&net.bn1.running_mean, &net.bn1.running_var),
        pair(&net.bn2.running_mean, &net.bn2.running_var),
        pair(&net.bn3.running_mean, &net.bn3.running_var),
    ]
}

/// Statistics are sums of up to 128 values, about as many as the sums of all layers together have,
/// so they add about as much rounding.
fn tolerance(vs: &VarStore) -> f64 {
    2_f64.sqrt() * rounding(vs)
}

fn check(kind: Kind) {
    let (mut net, vs) = net(kind);
    let tolerance = tolerance(&vs);
    let (before, batches) = (values(&vs), batches(kind));
    recalibrate(&mut net, batches.iter(), |net, images| Ok(net.forward_t(images, true))).unwrap();

    let _no_grad = tch::no_grad_guard();
    // The expected statistics, from the same weights in double precision.
    let mut exact_vs = VarStore::new(device());
    let exact = Net::new(&exact_vs.root());
    exact_vs.double();
    exact_vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
    for (norm, found) in statistics(&net).iter().enumerate() {
        for (which, found) in found.iter().enumerate() {
            let of_a_batch = |images: &Tensor| {
                moments(&exact.inputs(&images.to_kind(Kind::Double))[norm], true)[which]
                    .shallow_clone()
            };
            let sum =
                batches.iter().map(of_a_batch).fold(Tensor::from(0_f64), |sum, one| sum + one);
            let expected = sum / batches.len() as f64;
            let difference =
                (found.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
            assert!(
                difference <= tolerance * expected.abs().max().double_value(&[]),
                "bn{}: {found:?}, {difference:e}",
                norm + 1
            );
        }
    }
    // Nothing else has changed.
    let after = values(&vs);
    for (name, before) in before.iter().filter(|(name, _)| !name.contains("running")) {
        assert!(after[name].equal(before), "{name}");
    }
}

#[test]
fn statistics_are_plain_averages_over_the_batches() {
    check(Kind::Double);
    check(Kind::Float);
    check(Kind::BFloat16);
    check(Kind::Half);
}

/// `torch.optim.swa_utils.update_bn` of PyTorch 2.11 (`tests/fixtures/recalibration.py`).
#[test]
fn pytorch_finds_the_same() {
    let fixture = slim_tests::fixture::Fixture::read("recalibration");
    let vs = VarStore::new(device());
    let mut net = Net::new(&vs.root());
    tch::no_grad(|| {
        vs.variables()
            .iter_mut()
            .for_each(|(name, variable)| variable.copy_(fixture.tensor(&format!("before.{name}"))));
    });
    let batches = [fixture.tensor("batch.0"), fixture.tensor("batch.1")];
    recalibrate(&mut net, batches, |net, images| Ok(net.forward_t(images, true))).unwrap();
    for (name, variable) in vs.variables() {
        println!("{name}");
        assert_close(&variable, fixture.tensor(&format!("after.{name}")), tolerance(&vs));
    }
}

fn assert_refused(reason: &str, forward: impl Fn(&Net, &Tensor) -> Result<()>, batches: &[Tensor]) {
    let (mut net, vs) = net(Kind::Float);
    let before = values(&vs);
    let error = recalibrate(&mut net, batches, forward).unwrap_err();
    assert_eq!(error.to_string(), reason);
    assert_same(&values(&vs), &before);
}

#[test]
fn what_cannot_be_estimated_is_an_error_that_changes_nothing() {
    let train = |net: &Net, images: &Tensor| {
        let _ = net.forward_t(images, true);
        Ok(())
    };
    assert_refused(
        "cannot recalibrate `model`: there is no batch to estimate its statistics from",
        train,
        &[],
    );
    assert_refused(
        "cannot recalibrate `bn1`: its statistics have not moved; run the model in training mode, `forward_t(&images, true)`",
        |net, images| {
            let _ = net.forward_t(images, false);
            Ok(())
        },
        &batches(Kind::Float),
    );
    assert_refused(
        "cannot recalibrate `bn2`: its statistics have not moved; run the model in training mode, `forward_t(&images, true)`",
        |net, images| {
            let _ = images.apply(&net.conv1).apply_t(&net.bn1, true);
            Ok(())
        },
        &batches(Kind::Float),
    );
    let mut damaged = batches(Kind::Float);
    damaged.push(damaged[0].full_like(f64::NAN));
    let reason = "cannot recalibrate `bn1`: its statistics are not finite on these batches; look for NaN or infinity in the data and the weights";
    assert_refused(reason, train, &damaged);
    let stopped = |net: &Net, images: &Tensor| match images.size()[0] {
        5 => Err(Error::Custom("the disk is full".to_owned())),
        _ => train(net, images),
    };
    assert_refused("the disk is full", stopped, &batches(Kind::Float));
}

#[test]
fn a_panic_leaves_the_statistics_as_they_were() {
    let (mut net, vs) = net(Kind::Float);
    let before = values(&vs);
    let mut passes = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        recalibrate(&mut net, batches(Kind::Float), |net, images| {
            let _ = net.forward_t(&images, true);
            passes += 1;
            assert!(passes < 2, "stop");
            Ok(())
        })
    }));
    assert!(panicked.is_err() && passes == 2);
    assert_same(&values(&vs), &before);
}

#[test]
fn a_look_sees_the_statistics_of_recalibration_and_the_model_keeps_its_own() {
    let batches = batches(Kind::Float);
    let train = |net: &Net, images: &Tensor| Ok(net.forward_t(images, true));
    let (mut kept, kept_vs) = net(Kind::Float);
    recalibrate(&mut kept, &batches, train).unwrap();
    let expected = values(&kept_vs);

    let (net, vs) = net(Kind::Float);
    let before = values(&vs);
    let seen = recalibrated(&net, &batches, train, |_| values(&vs)).unwrap();
    assert_same(&seen, &expected);
    assert_same(&values(&vs), &before);
    let panics = || recalibrated(&net, &batches, train, |_| panic!("stop"));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_same(&values(&vs), &before);
    recalibrated(&net, &batches, |net, images| Ok(net.forward_t(images, false)), |_| ())
        .unwrap_err();
    assert_same(&values(&vs), &before);
}

#[test]
fn a_momentum_of_zero_of_ours_is_another_one_meanwhile() {
    let net = |momentum| {
        let vs = VarStore::new(device());
        let config = nn::BatchNormConfig { momentum, ..Default::default() };
        (own::batch_norm2d(vs.root(), 3, config), vs)
    };
    let ((mut still, _still), (mut moving, _moving)) = (net(0.), net(0.1));
    let batches = batches(Kind::Float);
    for norm in [&mut still, &mut moving] {
        recalibrate(norm, &batches, |norm, images| Ok(norm.forward_t(images, true))).unwrap();
    }
    assert!(still.running_mean.equal(&moving.running_mean));
    assert!(still.running_var.equal(&moving.running_var));
    assert_eq!(still.config.momentum, 0.);
    // The momentum is also restored after an error and a panic.
    recalibrate(&mut still, [()], |_, ()| -> Result<()> {
        Err(Error::Selection(SelectionError::NoGradient))
    })
    .unwrap_err();
    let panics = || recalibrate(&mut still, [()], |_, ()| -> Result<()> { panic!() });
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(still.config.momentum, 0.);
}

/// A batch norm of ours, and a visit that fails behind it.
#[derive(Debug)]
struct Broken(own::BatchNorm);

impl Prunable for Broken {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.field("0", |cx| self.0.trace(cx, input))
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.field("0", |visit| self.0.layers_mut(visit))?;
        Err(Error::Custom("failed on purpose".to_owned()))
    }
}

#[test]
fn a_momentum_is_put_back_where_a_visit_fails() {
    let vs = VarStore::new(device());
    let config = nn::BatchNormConfig { momentum: 0., ..Default::default() };
    let mut broken = Broken(own::batch_norm2d(vs.root(), 3, config));
    let error = recalibrate(&mut broken, batches(Kind::Float), |broken, images| {
        Ok(broken.0.forward_t(&images, true))
    })
    .unwrap_err();
    assert_eq!((error.to_string().as_str(), broken.0.config.momentum), ("failed on purpose", 0.));
}

#[test]
fn a_momentum_of_zero_never_moves() {
    let vs = VarStore::new(device());
    let config = nn::BatchNormConfig { momentum: 0., ..Default::default() };
    let mut norm = nn::batch_norm2d(vs.root(), 3, config);
    let error = recalibrate(&mut norm, batches(Kind::Float), |norm, images| {
        Ok(norm.forward_t(&images, true))
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot recalibrate `model`: it has a momentum of 0; build it with one in (0, 1], such as 0.1 (`recalibrate` uses 0.1 for batch norms of `slim_runtime::nn`)"
    );
}

#[test]
fn blank_images_have_no_variance() {
    for kind in [Kind::Float, Kind::Half] {
        let mut vs = VarStore::new(device());
        let mut norm = nn::batch_norm2d(vs.root(), 3, Default::default());
        vs.set_kind(kind);
        let blank = Tensor::zeros([4, 3, 2, 2], (kind, device()));
        recalibrate(&mut norm, [blank], |norm, images| Ok(norm.forward_t(&images, true))).unwrap();
        assert!(norm.running_var.abs().max().double_value(&[]) < 1e-6);
        assert!(norm.running_mean.abs().max().double_value(&[]) == 0.);
    }
}

/// A batch norm on two branches: the tracer finds two uses.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3, output = bn + bn(input))]
struct Twice {
    bn: nn::BatchNorm,
}

#[test]
fn a_norm_that_is_applied_twice_weighs_its_uses_by_momentum() {
    let mut vs = VarStore::new(device());
    let mut net = Twice { bn: nn::batch_norm2d(vs.root() / "bn", 3, Default::default()) };
    vs.double();
    let images = Tensor::randn([4, 3, 2, 2], (Kind::Double, device()));
    recalibrate(&mut net, [&images], |net, images| {
        Ok(images.apply_t(&net.bn, true) + (images * 3.).apply_t(&net.bn, true))
    })
    .unwrap();
    let [mean, _] = moments(&images, true);
    let expected = (&mean * 0.9 + &mean * 3.) / 1.9;
    assert_close(&net.bn.running_mean, &expected, 1e-12);
}
