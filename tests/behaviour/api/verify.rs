//! A wiring that disagrees with `forward` is found and named, and the model does not change.

use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_runtime::error::{ArgumentError, CheckError, PlanError};
use slim_runtime::{Error, Plan, Prunable, Slimming, functional};
use slim_tests::device;
use slim_tests::fill::{self, fill};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{assert_same, values};

/// A way in which `forward` differs from the declared wiring.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    /// `conv3` reads `bn1` instead of `bn2`.
    OtherReader,
    /// `conv3` reads `bn2 + bn1`, which no field declares.
    Residual,
    /// `forward` shuffles the channels of `bn3`.
    Shuffle,
    /// A sigmoid behind `bn1`, which gives ½ where γ and β are zero.
    Sigmoid,
    /// `fc` reads `[right, left]`.
    Order,
}

/// A chain, then two branches that are concatenated. The wiring is right if `wrong` is empty.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Net {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    left: (nn::Conv2D, nn::BatchNorm),
    #[prune(from = bn3)]
    right: (nn::Conv2D, nn::BatchNorm),
    #[prune(from = [left, right])]
    fc: nn::Linear,
    #[prune(skip)]
    wrong: Vec<Wrong>,
}

impl Net {
    fn new(p: &nn::Path, wrong: &[Wrong]) -> Self {
        let conv = |name: &str, inputs| {
            nn::conv2d(p / name, inputs, 8, 3, nn::ConvConfig { padding: 1, ..Default::default() })
        };
        let bn = |name: &str| nn::batch_norm2d(p / name, 8, Default::default());
        Net {
            conv1: conv("conv1", 3),
            bn1: bn("bn1"),
            conv2: conv("conv2", 8),
            bn2: bn("bn2"),
            conv3: conv("conv3", 8),
            bn3: bn("bn3"),
            left: (conv("left0", 8), bn("left1")),
            right: (conv("right0", 8), bn("right1")),
            fc: nn::linear(p / "fc", 16, 5, Default::default()),
            wrong: wrong.to_vec(),
        }
    }

    fn does(&self, wrong: Wrong) -> bool {
        self.wrong.contains(&wrong)
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let first = xs.apply(&self.conv1).apply_t(&self.bn1, train);
        let first = if self.does(Wrong::Sigmoid) { first.sigmoid() } else { first.relu() };
        let second = first.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        let second = if self.does(Wrong::Residual) { second + &first } else { second };
        let read = if self.does(Wrong::OtherReader) { first } else { second };
        let mut third = read.apply(&self.conv3).apply_t(&self.bn3, train).relu();
        if self.does(Wrong::Shuffle) {
            third = functional::shuffle(&third, 2);
        }
        let branch =
            |(conv, bn): &(nn::Conv2D, nn::BatchNorm)| third.apply(conv).apply_t(bn, train).relu();
        let mut parts = [branch(&self.left), branch(&self.right)];
        if self.does(Wrong::Order) {
            parts.reverse();
        }
        Tensor::cat(&parts, 1).mean_dim([2, 3].as_slice(), false, xs.kind()).apply(&self.fc)
    }
}

fn net(wrong: &[Wrong]) -> (Net, VarStore) {
    let vs = VarStore::new(device());
    let net = Net::new(&vs.root(), wrong);
    fill(&vs);
    (net, vs)
}

fn images(n: i64) -> Tensor {
    fill::images(&[n, 3, 6, 6])
}

fn forward(net: &Net, images: &Tensor) -> Tensor {
    net.forward_t(images, false)
}

/// The places in the error for a network with these mistakes. Asserts that every bit, address and
/// gradient is unchanged.
fn refused(wrong: &[Wrong], ratio: f64) -> Vec<String> {
    let (mut net, vs) = net(wrong);
    let images = images(2);
    net.forward_t(&images, true).square().mean(Kind::Float).backward();
    let state = |vs: &VarStore| {
        let tensors = vs.variables().into_iter();
        let mut state: Vec<_> = tensors
            .map(|(name, tensor)| {
                (name, tensor.data_ptr(), tensor.stride(), tensor.requires_grad())
            })
            .collect();
        state.sort_by(|a, b| a.0.cmp(&b.0));
        state
    };
    let gradient = |vs: &VarStore| vs.variables()["conv1.weight"].grad();
    let (before, addresses, grad) = (values(&vs), state(&vs), gradient(&vs).copy());
    // The default tolerance of a CPU. That of a GPU allows for TF32, and would accept the sigmoid.
    let error =
        Slimming::ratio(ratio).verify(&images, forward).tolerance(1e-4).slim(&mut net).unwrap_err();
    assert_same(&values(&vs), &before);
    assert_eq!(state(&vs), addresses);
    assert!(gradient(&vs).equal(&grad));
    match error {
        Error::Check(CheckError::Diverged { places }) => places,
        error => panic!("{error}"),
    }
}

/// The place of each entry, without the symptom.
fn places(wrong: &[Wrong], ratio: f64) -> Vec<String> {
    refused(wrong, ratio).iter().map(|place| place.split_once(':').unwrap().0.to_owned()).collect()
}

#[test]
fn a_network_that_is_wired_as_it_runs_is_slimmed() {
    let (mut net, vs) = net(&[]);
    let tolerance = slim_tests::check::rounding(&vs);
    let (mut other, mut other_vs) = self::net(&[]);
    other_vs.copy(&vs).unwrap();
    let verified = Slimming::ratio(0.5).verify(&images(2), forward).slim(&mut net).unwrap();
    assert!(
        verified.closeness.difference <= tolerance * verified.closeness.magnitude,
        "{verified}"
    );
    assert!(verified.closeness.magnitude > 0.);

    // The surgery is that of `slim`.
    let slimmed = other.slim(0.5).unwrap();
    assert_eq!(verified.slimmed.plan().layers(), slimmed.plan().layers());
    // The check has compared the declared wiring with `forward`, so the plan no longer lists it.
    assert_eq!(slimmed.plan().declared(), ["Net"]);
    assert!(verified.slimmed.plan().declared().is_empty());
    assert_same(&values(&vs), &values(&other_vs));
}

#[test]
fn a_plan_is_verified_on_a_replica() {
    let (mut net, vs) = net(&[]);
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    // `check` alone does not change the network.
    let before = values(&vs);
    let closeness = plan.verify(&images(1), forward).check(&mut net).unwrap();
    assert_same(&values(&vs), &before);
    let verified = plan
        .verify(&images(1), |net: &Net, images| net.forward_t(images, false))
        .apply(&mut net)
        .unwrap();
    assert_eq!(verified.closeness, closeness);
    assert_eq!(verified.slimmed.plan().layers(), plan.layers());
    assert_eq!(
        vs.variables()["bn1.weight"].size(),
        [plan.layer("bn1").unwrap().axes[0].keep.len() as i64]
    );
}

#[test]
fn an_activation_that_does_not_map_zero_to_zero() {
    assert_eq!(
        places(&[Wrong::Sigmoid], 0.5),
        ["without channels of `bn1`, which by the fields `conv1` makes and `conv2` reads"]
    );
    let error = &refused(&[Wrong::Sigmoid], 0.5)[0];
    assert!(
        error.contains(": outputs of up to ") && error.contains(" are off by up to "),
        "{error}"
    );
}

#[test]
fn a_forward_pass_that_reads_another_tensor() {
    let found = places(&[Wrong::OtherReader], 0.5);
    assert_eq!(
        found,
        [
            "without channels of `bn1`, which by the fields `conv1` makes and `conv2` reads",
            "without channels of `bn2`, which by the fields `conv2` makes and `conv3` reads"
        ]
    );
    let panics = refused(&[Wrong::OtherReader], 0.5);
    assert!(
        panics[0]
            .contains("it panics: Given groups=1, weight of size [8, 8, 3, 3], expected input"),
        "{}",
        panics[0]
    );
    assert!(!panics[0].contains("Exception raised"), "{}", panics[0]);
}

#[test]
fn a_sum_that_the_wiring_does_not_know() {
    let found = places(&[Wrong::Residual], 0.5);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("`bn1`") && found[1].contains("`bn2`"), "{found:?}");
}

#[test]
fn a_shuffle_that_the_wiring_does_not_know() {
    assert_eq!(
        places(&[Wrong::Shuffle], 0.5),
        [
            "without channels of `bn3`, which by the fields `conv3` makes and `left.0` and `right.0` read"
        ]
    );
}

#[test]
fn a_concatenation_in_another_order() {
    let found = places(&[Wrong::Order], 0.5);
    assert_eq!(
        found,
        [
            "without channels of `left.1`, which by the fields `left.0` makes and `fc` reads",
            "without channels of `right.1`, which by the fields `right.0` makes and `fc` reads"
        ]
    );
}

#[test]
fn several_mistakes_are_named_at_once() {
    let found = places(&[Wrong::Sigmoid, Wrong::Shuffle], 0.5);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().any(|place| place.contains("`bn1`"))
            && found.iter().any(|place| place.contains("`bn3`")),
        "{found:?}"
    );
}

#[test]
fn the_error_says_what_disagrees() {
    insta::assert_snapshot!(
        Error::Check(CheckError::Diverged { places: refused(&[Wrong::Residual], 0.5) }),
        @"
    the slimmed network is not the masked one, so `forward` does something that the fields do not declare (another order, another consumer, an activation that does not map zero to zero); compare `forward` with the fields here:
      without channels of `bn1`, which by the fields `conv1` makes and `conv2` reads: it panics: The size of tensor a (8) must match the size of tensor b (6) at non-singleton dimension 1
      without channels of `bn2`, which by the fields `conv2` makes and `conv3` reads: it panics: Given groups=1, weight of size [8, 1, 3, 3], expected input[2, 8, 6, 6] to have 1 channels, but got 8 channels instead
    "
    );
}

/// Two blocks on a residual stream.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Stream {
    stem: (nn::Conv2D, nn::BatchNorm),
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    #[prune(from = bn + stem)]
    last: nn::Conv2D,
}

#[test]
fn norms_whose_channels_go_together_are_named_together() {
    let vs = VarStore::new(device());
    let p = vs.root();
    let mut net = Stream {
        stem: (
            nn::conv2d(&p / 0, 3, 8, 1, Default::default()),
            nn::batch_norm2d(&p / 1, 8, Default::default()),
        ),
        conv: nn::conv2d(&p / 2, 8, 8, 1, Default::default()),
        bn: nn::batch_norm2d(&p / 3, 8, Default::default()),
        last: nn::conv2d(&p / 4, 8, 2, 1, Default::default()),
    };
    fill(&vs);
    let forward = |net: &Stream, xs: &Tensor| {
        let stem = xs.apply(&net.stem.0).apply_t(&net.stem.1, false);
        (stem.apply(&net.conv).apply_t(&net.bn, false) + stem).sigmoid().apply(&net.last)
    };
    let error =
        Slimming::ratio(0.5).verify(&images(1), forward).slim(&mut net).unwrap_err().to_string();
    assert!(
        error.contains("without channels of `stem.1` and `bn`, which by the fields `stem.0` and `conv` make and `conv` and `last` read"),
        "{error}"
    );
}

/// A deep chain, in which one activation is not allowed by the fields.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Deep(Vec<(nn::Conv2D, nn::BatchNorm)>, nn::Conv2D);

#[test]
fn one_layer_of_many_is_named_by_its_path() {
    for wrong in [0, 17, 29] {
        let vs = VarStore::new(device());
        let p = vs.root();
        let layer = |i: i64| {
            let conv = nn::conv2d(&p / i / 0, if i == 0 { 3 } else { 6 }, 6, 1, nn::no_bias());
            (conv, nn::batch_norm2d(&p / i / 1, 6, Default::default()))
        };
        let mut net =
            Deep((0..30).map(layer).collect(), nn::conv2d(&p / "last", 6, 2, 1, nn::no_bias()));
        fill(&vs);
        let forward = |net: &Deep, xs: &Tensor| {
            let layers = net.0.iter().enumerate();
            let xs = layers.fold(xs.shallow_clone(), |xs, (i, (conv, bn))| {
                let xs = xs.apply(conv).apply_t(bn, false);
                if i == wrong { xs.sigmoid() } else { xs.tanh() }
            });
            xs.apply(&net.1)
        };
        let error = Slimming::ratio(0.3).verify(&images(1), forward).slim(&mut net).unwrap_err();
        let Error::Check(CheckError::Diverged { places }) = error else { panic!("{error}") };
        assert_eq!(places.len(), 1, "{places:?}");
        assert!(
            places[0].starts_with(&format!(
                "without channels of `0.{wrong}.1`, which by the fields `0.{wrong}.0` makes"
            )),
            "{places:?}"
        );
    }
}

/// The error of a closure that cannot be verified. Asserts that the network does not change.
fn unverified(sample: &Tensor, forward: impl Fn(&Net, &Tensor) -> Tensor) -> Error {
    let (mut net, vs) = net(&[]);
    let before = values(&vs);
    let error = Slimming::ratio(0.5).verify(sample, forward).slim(&mut net).unwrap_err();
    assert_same(&values(&vs), &before);
    error
}

#[test]
fn a_closure_in_training_mode() {
    let error = unverified(&images(2), |net, images| net.forward_t(images, true));
    insta::assert_snapshot!(error, @"the closure changed `bn1.running_mean`, so it runs the network in training mode; call its forward pass with `train = false`");
}

#[test]
fn a_closure_whose_output_says_nothing() {
    // Enough outputs that two dropouts never agree by chance.
    let error = unverified(&images(20), |net, images| forward(net, images).dropout(0.5, true));
    insta::assert_snapshot!(error, @"nothing was verified: the same network gives another output each time; call its forward pass with `train = false`");
    let error = unverified(&images(2), |net, images| forward(net, images).argmax(1, false));
    insta::assert_snapshot!(error, @"nothing was verified: the closure returns Int64; let it return floats, such as logits");
    let error = unverified(&images(0), forward);
    insta::assert_snapshot!(error, @"nothing was verified: the output is empty ([0, 5]); the sample needs at least one item");
    let error = unverified(&images(2), |net, images| forward(net, images) * f64::NAN);
    insta::assert_snapshot!(error, @"nothing was verified: the masked network's output is not finite on this sample; use another");
    let error = unverified(&images(2), |net, images| forward(net, images) * 0.);
    insta::assert_snapshot!(error, @"nothing was verified: the masked network's output is zero everywhere on this sample, which shows nothing; use another");
}

#[test]
fn outputs_of_another_shape_and_infinite_ones_differ() {
    let by_width = |net: &Net, images: &Tensor| {
        forward(net, images).repeat([net.bn2.running_mean.size()[0], 1])
    };
    let error = unverified(&images(2), by_width).to_string();
    assert!(
        error.contains("`bn2`")
            && error.contains("the output has shape [")
            && error.contains("instead of [16, 5]"),
        "{error}"
    );
    let by_width = |net: &Net, images: &Tensor| {
        forward(net, images) / (net.bn2.running_mean.size()[0] == 8) as i64
    };
    let error = unverified(&images(2), by_width).to_string();
    assert!(error.contains("`bn2`") && error.contains("outputs are NaN or infinite"), "{error}");
}

#[test]
fn a_panic_of_the_closures_own_goes_on() {
    let (mut net, vs) = net(&[]);
    let before = values(&vs);
    let verify = || {
        Slimming::ratio(0.5).verify(&images(2), |_: &Net, _| panic!("of its own")).slim(&mut net)
    };
    let panic = catch_unwind(AssertUnwindSafe(verify)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"of its own"));
    assert_same(&values(&vs), &before);
    // Gradients are enabled again, as before.
    assert!(forward(&net, &images(1)).requires_grad());
}

#[test]
fn tolerances() {
    for tolerance in [-1e-3, f64::NAN, f64::INFINITY] {
        let (mut net, _vs) = net(&[]);
        let error = Slimming::ratio(0.5)
            .verify(&images(2), forward)
            .tolerance(tolerance)
            .slim(&mut net)
            .unwrap_err();
        assert!(matches!(error, Error::Argument(ArgumentError::Tolerance(_))), "{error}");
    }
    // Nothing is removed, so any difference comes from the closure.
    let (mut net, _vs) = net(&[]);
    let random = |net: &Net, images: &Tensor| forward(net, images).dropout(0.5, true);
    assert!(matches!(
        Slimming::ratio(0.).verify(&images(2), random).slim(&mut net),
        Err(Error::Check(CheckError::Unverified { .. }))
    ));
    // The error of the sigmoid is below this tolerance.
    let (mut net, _vs) = self::net(&[Wrong::Sigmoid]);
    let verified =
        Slimming::ratio(0.5).verify(&images(2), forward).tolerance(1e6).slim(&mut net).unwrap();
    assert!(verified.closeness.difference > 1e-3 * verified.closeness.magnitude);
}

#[test]
fn every_float_kind_verifies_and_is_found_wrong() {
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let images = images(2).to_kind(kind);
        let (mut net, mut vs) = net(&[]);
        vs.set_kind(kind);
        Slimming::ratio(0.5).verify(&images, forward).slim(&mut net).unwrap();
        let (mut net, mut vs) = self::net(&[Wrong::OtherReader]);
        vs.set_kind(kind);
        assert!(
            matches!(
                Slimming::ratio(0.5).verify(&images, forward).slim(&mut net),
                Err(Error::Check(CheckError::Diverged { .. }))
            ),
            "{kind:?}"
        );
    }
}

#[test]
fn a_sample_is_what_the_closure_takes() {
    let (mut net, _vs) = net(&[]);
    let batches = [images(1), images(2)];
    let all = |net: &Net, batches: &[Tensor]| {
        Tensor::cat(&batches.iter().map(|images| forward(net, images)).collect::<Vec<_>>(), 0)
    };
    Slimming::ratio(0.5).verify(batches.as_slice(), all).slim(&mut net).unwrap();
}

#[test]
fn a_plan_of_another_network_is_refused_before_anything_runs() {
    let (net, _vs) = net(&[]);
    let plan: Plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let mut slim = net;
    slim.apply(&plan).unwrap();
    let error = plan.verify(&images(1), |_: &Net, _| panic!("runs")).apply(&mut slim).unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::Mismatch { .. })), "{error}");
}
