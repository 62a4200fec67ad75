//! Random chains, nested and in containers: the slimmed network computes what the masked network
//! computes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use slim_runtime::error::SelectionError;
use slim_runtime::{Error, Plan, Prunable, Slimming};
use slim_tests::device;
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Kind, Tensor};

use crate::common::{assert_fields_and_store_agree, assert_same, mask_by_name, values};

/// The specification of a random network.
#[derive(Debug, Clone)]
struct Spec {
    seed: u64,
    stem: Unit,
    body: Vec<(Unit, Option<Unit>)>,
    twins: [Unit; 2],
    boxed: Unit,
    hidden: i64,
    /// Side of the images in front of the flatten.
    side: i64,
    activation: Activation,
    ratio: f64,
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    width: i64,
    kernel: i64,
    bias: bool,
    norm: Norm,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    Affine,
    Plain,
    None,
    /// An affine batch norm behind an affine one.
    Twice,
    /// A batch norm without γ and β behind an affine one: nothing sets the shift of the second to
    /// zero.
    ThenPlain,
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Relu,
    Tanh,
    Silu,
}

impl Activation {
    fn apply(self, xs: &Tensor) -> Tensor {
        match self {
            Activation::Relu => xs.relu(),
            Activation::Tanh => xs.tanh(),
            Activation::Silu => xs.silu(),
        }
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Conv {
    conv: nn::Conv2D,
    bn: Option<nn::BatchNorm>,
    #[prune(elementwise)]
    activation: Activation,
    again: Option<Box<nn::BatchNorm>>,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Head(nn::Linear, nn::BatchNorm, #[prune(elementwise)] Activation, nn::Linear);

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Net {
    stem: Conv,
    body: Vec<(Conv, Option<Conv>)>,
    twins: [Conv; 2],
    boxed: Box<Conv>,
    side: i64,
    head: Head,
}

impl Conv {
    fn new(p: &nn::Path, inputs: i64, unit: Unit, activation: Activation) -> Self {
        let config =
            nn::ConvConfig { padding: unit.kernel / 2, bias: unit.bias, ..Default::default() };
        let norm = |name: &str, affine| {
            nn::batch_norm2d(
                p / name,
                unit.width,
                nn::BatchNormConfig { affine, ..Default::default() },
            )
        };
        Conv {
            conv: nn::conv2d(p / "conv", inputs, unit.width, unit.kernel, config),
            bn: (unit.norm != Norm::None).then(|| norm("bn", unit.norm != Norm::Plain)),
            activation,
            again: matches!(unit.norm, Norm::Twice | Norm::ThenPlain)
                .then(|| Box::new(norm("again", unit.norm == Norm::Twice))),
        }
    }
}

impl Net {
    fn new(p: &nn::Path, spec: &Spec) -> Self {
        let mut inputs = 3;
        let mut conv = |p: nn::Path, unit: Unit| {
            Conv::new(&p, std::mem::replace(&mut inputs, unit.width), unit, spec.activation)
        };
        let stem = conv(p / "stem", spec.stem);
        let pairs = spec.body.iter().enumerate();
        let body = pairs.map(|(i, (first, second))| {
            let p = p / "body" / i;
            (conv(&p / 0, *first), second.map(|second| conv(&p / 1, second)))
        });
        let body = body.collect();
        let twins = [conv(p / "twins" / 0, spec.twins[0]), conv(p / "twins" / 1, spec.twins[1])];
        let boxed = Box::new(conv(p / "boxed", spec.boxed));
        let p = p / "head";
        let head = Head(
            nn::linear(
                &p / 0,
                spec.boxed.width * spec.side * spec.side,
                spec.hidden,
                Default::default(),
            ),
            nn::batch_norm1d(&p / 1, spec.hidden, Default::default()),
            spec.activation,
            nn::linear(&p / 3, spec.hidden, 4, Default::default()),
        );
        Net { stem, body, twins, boxed, side: spec.side, head }
    }

    fn convs(&self) -> impl Iterator<Item = &Conv> {
        let body =
            self.body.iter().flat_map(|(first, second)| std::iter::once(first).chain(second));
        std::iter::once(&self.stem).chain(body).chain(&self.twins).chain([&*self.boxed])
    }
}

impl ModuleT for Conv {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply_opt_t(&self.bn, train);
        let xs = self.activation.apply(&xs);
        self.again.iter().fold(xs, |xs, bn| xs.apply_t(&**bn, train))
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = self.convs().fold(xs.shallow_clone(), |xs, conv| xs.apply_t(conv, train));
        let xs = xs.adaptive_avg_pool2d([self.side, self.side]).flatten(1, -1);
        let xs = xs.apply(&self.head.0).apply_t(&self.head.1, train);
        self.head.2.apply(&xs).apply(&self.head.3)
    }
}

fn unit() -> impl Strategy<Value = Unit> {
    let norm = prop_oneof![6 => Just(Norm::Affine), 1 => Just(Norm::Plain), 1 => Just(Norm::None), 1 => Just(Norm::Twice), 1 => Just(Norm::ThenPlain)];
    (1_i64..9, prop_oneof![Just(1_i64), Just(3)], any::<bool>(), norm)
        .prop_map(|(width, kernel, bias, norm)| Unit { width, kernel, bias, norm })
}

fn spec() -> impl Strategy<Value = Spec> {
    let body = prop::collection::vec((unit(), prop::option::of(unit())), 0..4);
    let activation =
        prop_oneof![Just(Activation::Relu), Just(Activation::Tanh), Just(Activation::Silu)];
    let parts = (
        any::<u64>(),
        unit(),
        body,
        [unit(), unit()],
        unit(),
        1_i64..7,
        1_i64..4,
        activation,
        0.0..0.999,
    );
    parts.prop_map(|(seed, stem, body, twins, boxed, hidden, side, activation, ratio)| Spec {
        seed,
        stem,
        body,
        twins,
        boxed,
        hidden,
        side,
        activation,
        ratio,
    })
}

/// Builds the network in double precision.
fn build(spec: &Spec) -> (Net, VarStore) {
    // Tensors this small gain nothing from threads, least of all while tests run beside each other.
    tch::set_num_threads(1);
    let mut vs = VarStore::new(device());
    let net = Net::new(&vs.root(), spec);
    vs.double();
    // Torch's generator is shared by all threads, so the values come from a separate one.
    let mut random = fastrand::Rng::with_seed(spec.seed);
    let _no_grad = tch::no_grad_guard();
    let variables: BTreeMap<_, _> = vs.variables().into_iter().collect();
    for (name, mut variable) in variables {
        let lowest = if name.ends_with("running_var") { 0.5 } else { -1. };
        let values: Vec<f64> =
            (0..variable.numel()).map(|_| lowest + random.f64() * (1. - lowest)).collect();
        variable.copy_(&Tensor::from_slice(&values).view_as(&variable));
    }
    (net, vs)
}

fn outputs(net: &Net, images: &Tensor) -> Tensor {
    tch::no_grad(|| net.forward_t(images, false))
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    let scale = expected.abs().max().double_value(&[]).max(1e-3);
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference <= 1e-9 * scale, "{difference:e} of {scale}");
}

/// Without floors and ties, `N − ⌊N · ratio⌋ − 1` of the removable channels stay.
fn assert_kept_count(plan: &Plan, ratio: f64) {
    let scored = plan.layers().iter().filter_map(|layer| {
        layer.scored.as_ref().map(|scored| (layer.axis(&scored.axis).unwrap(), scored))
    });
    let kept: usize =
        scored.map(|(axis, scored)| axis.keep.len() - (axis.width - scored.removable)).sum();
    let n = plan.removable();
    let by_rule = n - (n as f64 * ratio) as usize - 1;
    let twice =
        plan.layers().iter().any(|layer| layer.path.ends_with("again") && layer.scored.is_some());
    match plan.bounded().next() {
        // Two norms of one channel are two entries with the same score, hence ties.
        _ if twice => assert!(plan.bounded().next().is_some() || kept <= by_rule),
        None => assert_eq!(kept, by_rule),
        Some(_) => assert!(kept > by_rule),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn slimmed_is_masked(spec in spec()) {
        let (mut net, vs) = build(&spec);
        let images = Tensor::randn([2, 3, 5, 5], (Kind::Double, device()));
        let plan = match net.plan(&Slimming::ratio(spec.ratio)) {
            Err(Error::Selection(SelectionError::NoRanking { .. })) => return Err(TestCaseError::reject("equal scales")),
            plan => plan.unwrap(),
        };
        if spec.ratio > 0. {
            assert_kept_count(&plan, spec.ratio);
        }

        let (masked, masked_vs) = build(&spec);
        assert_same(&values(&vs), &values(&masked_vs));
        mask_by_name(&masked_vs, &plan);

        let slimmed = net.slim(spec.ratio).unwrap();
        prop_assert_eq!(slimmed.plan(), &plan);
        assert_close(&outputs(&net, &images), &outputs(&masked, &images));
        assert_fields_and_store_agree(&net, &vs, &plan);

        // The library's mask is the same, and a replica applies the plan from its file.
        let (mut replica, replica_vs) = build(&spec);
        replica.mask(&plan).unwrap();
        assert_same(&values(&replica_vs), &values(&masked_vs));
        let (mut replica, replica_vs) = build(&spec);
        let read: Plan = Plan::from_json(&plan.to_json().unwrap()).unwrap();
        replica.apply(&read).unwrap();
        assert_same(&values(&replica_vs), &values(&vs));

        // Training goes on, and the slimmed network can be slimmed again.
        let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, 1e-3).unwrap();
        for _ in 0..2 {
            optimizer.backward_step(&net.forward_t(&images, true).square().sum(Kind::Double));
        }
        prop_assert!(outputs(&net, &images).isfinite().all().int64_value(&[]) == 1);
        let again = net.plan(&Slimming::ratio(0.5)).unwrap();
        let before = values(&vs);
        mask_by_name(&vs, &again);
        let masked = outputs(&net, &images);
        let _no_grad = tch::no_grad_guard();
        for (name, mut variable) in vs.variables() {
            variable.copy_(&before[&name]);
        }
        net.apply(&again).unwrap();
        assert_close(&outputs(&net, &images), &masked);
    }

    #[test]
    fn ratio_zero_changes_nothing(spec in spec()) {
        let (mut net, vs) = build(&spec);
        let before = values(&vs);
        let slimmed = net.slim(0.).unwrap();
        assert_same(&values(&vs), &before);
        prop_assert_eq!(slimmed.plan().channels().removed(), 0.);
        prop_assert_eq!(slimmed.plan().threshold(), None);
    }
}
