//! Injects a failure at every step of surgery, as an error and as a panic. Each leaves the model
//! unchanged, to the bit.

use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use super::{ModelState, Value, apply_with, temporarily};
use crate::analysis::{self, Masking};
use crate::fault::{self, Failure};
use crate::nn as slim_nn;
use crate::{Flow, LayerKind, LayerVisitor, Plan, Prunable, Result, Slimming, Tracer, recalibrate};

/// A user-defined layer that stores its number of channels twice.
#[derive(Debug)]
struct Counter {
    channels: i64,
    again: i64,
}

impl Prunable for Counter {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("counter"));
        let channels = layer.follow("channels", &input, self.channels)?;
        layer.size("channels", channels)?;
        layer.size("again", channels)?;
        layer.pass(channels)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.size("channels", &mut self.channels)?;
        visit.size("again", &mut self.again)
    }
}

/// Two paths behind a split that share a convolution's weights, then a shuffle.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
struct Net {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    split: slim_nn::Split,
    #[prune(from = split.0)]
    left: nn::Conv2D,
    left_bn: nn::BatchNorm,
    #[prune(from = split.1)]
    right: nn::Conv2D,
    right_bn: nn::BatchNorm,
    #[prune(from = [left_bn, right_bn])]
    shuffle: slim_nn::Shuffle,
    counters: Vec<Counter>,
    fc: nn::Linear,
}

impl Net {
    fn new() -> (Self, VarStore) {
        let vs = VarStore::new(Device::Cpu);
        let p = vs.root();
        let left =
            nn::conv2d(&p / "left", 4, 6, 3, nn::ConvConfig { padding: 1, ..Default::default() });
        let mut right =
            nn::conv2d(&p / "right", 4, 6, 3, nn::ConvConfig { padding: 1, ..Default::default() });
        right.ws = left.ws.shallow_clone();
        let mut net = Net {
            conv: nn::conv2d(&p / "conv", 3, 8, 3, nn::no_bias()),
            bn: nn::batch_norm2d(&p / "bn", 8, Default::default()),
            split: slim_nn::split([4, 4]),
            left,
            left_bn: nn::batch_norm2d(&p / "left_bn", 6, Default::default()),
            right,
            right_bn: nn::batch_norm2d(&p / "right_bn", 6, Default::default()),
            shuffle: slim_nn::shuffle(12, 2),
            counters: (0..2).map(|_| Counter { channels: 12, again: 12 }).collect(),
            fc: nn::linear(&p / "fc", 12, 5, Default::default()),
        };
        // Rollback has to restore strides and a frozen variable, too.
        let channels_last =
            net.conv.ws.detach().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        net.conv.ws.set_data(&channels_last);
        let _ = net.bn.bs.as_ref().unwrap().set_requires_grad(false);
        (net, vs)
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let parts = self.split.forward(&xs.apply(&self.conv).apply_t(&self.bn, train).relu());
        let left = parts[0].apply(&self.left).apply_t(&self.left_bn, train).relu();
        let right = parts[1].apply(&self.right).apply_t(&self.right_bn, train).relu();
        let both = self.shuffle.forward(&Tensor::cat(&[left, right], 1));
        both.mean_dim([2, 3].as_slice(), false, both.kind()).apply(&self.fc)
    }
}

/// What must not change of a tensor: address, memory order, and bytes.
#[derive(Debug, PartialEq)]
struct Bits {
    address: usize,
    size: Vec<i64>,
    stride: Vec<i64>,
    kind: Kind,
    requires_grad: bool,
    bytes: Vec<u8>,
}

impl Bits {
    fn of(tensor: &Tensor) -> Self {
        let contiguous = tensor.detach().contiguous();
        let mut bytes = vec![0; contiguous.numel() * contiguous.kind().elt_size_in_bytes()];
        contiguous.copy_data_u8(&mut bytes, contiguous.numel());
        Bits {
            address: tensor.data_ptr() as usize,
            size: tensor.size(),
            stride: tensor.stride(),
            kind: tensor.kind(),
            requires_grad: tensor.requires_grad(),
            bytes,
        }
    }
}

/// The whole state of a network: each tensor with its gradient, and the state that is not a tensor.
#[derive(Debug, PartialEq)]
struct Snapshot {
    tensors: Vec<(String, Bits, Option<Bits>)>,
    split: Vec<i64>,
    order: Vec<i64>,
    counts: Vec<i64>,
}

impl Snapshot {
    fn of(net: &Net) -> Self {
        let graph = analysis::trace(net, Masking::BatchNorm).unwrap();
        let tensors = graph.layers.iter().flat_map(|node| {
            node.tensors.iter().map(|bound| {
                let grad = bound.tensor.grad();
                (
                    format!("{}.{}", node.path, bound.name),
                    Bits::of(&bound.tensor),
                    grad.defined().then(|| Bits::of(&grad)),
                )
            })
        });
        Snapshot {
            tensors: tensors.collect(),
            split: net.split.sizes().to_vec(),
            order: net.shuffle.order().to_vec(),
            counts: net
                .counters
                .iter()
                .flat_map(|counter| [counter.channels, counter.again])
                .collect(),
        }
    }
}

fn images() -> Tensor {
    Tensor::randn([2, 3, 6, 6], (Kind::Float, Device::Cpu))
}

fn loss(net: &Net) -> Tensor {
    net.forward_t(&images(), true).square().mean(Kind::Float)
}

/// Injects a failure at each step of `operation` until it succeeds. Returns the number of steps.
fn fails_at_every_step<T>(
    net: &mut Net,
    operation: impl Fn(&mut Net, &Plan) -> Result<T>,
) -> usize {
    loss(net).backward();
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    let before = Snapshot::of(net);
    for step in 0.. {
        let mut through = false;
        for failure in [Failure::Error, Failure::Panic] {
            let (done, failed) = fault::inject(step, failure, || operation(net, &plan));
            match (failed, failure, done) {
                (true, Failure::Error, Ok(Err(error))) => {
                    assert!(format!("{error:?}").contains("injected"), "{error:?}");
                }
                (true, Failure::Panic, Err(panic)) => {
                    assert_eq!(panic.downcast_ref(), Some(&"injected"));
                }
                (false, _, Ok(Ok(_))) => through = true,
                (failed, _, Ok(Ok(_))) => {
                    panic!("step {step}: success, with an injected {failure:?}: {failed}")
                }
                (_, _, Ok(Err(error))) => panic!("step {step}, {failure:?}: {error}"),
                (_, _, Err(_)) => panic!("step {step}, {failure:?}: a panic of its own"),
            }
            if through {
                return step;
            }
            assert_eq!(Snapshot::of(net), before, "step {step}, {failure:?}");
        }
    }
    unreachable!("some step is the last")
}

#[test]
fn a_failure_at_any_step_of_slimming_changes_nothing() {
    let (mut net, vs) = Net::new();
    let (mut other, mut other_vs) = Net::new();
    other_vs.copy(&vs).unwrap();
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();

    let steps = fails_at_every_step(&mut net, Prunable::apply);
    // About 20 tensors and 11 gradients, each computed and exchanged in two halves; checks; states.
    assert!(steps > 100, "{steps} steps");

    // After all these failures the plan has the same effect as on a replica that never failed, and
    // training goes on.
    loss(&other).backward();
    other.apply(&plan).unwrap();
    assert_eq!(Snapshot::of(&net).counts, Snapshot::of(&other).counts);
    assert_eq!(
        (net.split.sizes(), net.shuffle.order()),
        (other.split.sizes(), other.shuffle.order())
    );
    for (path, variable) in vs.variables().into_iter().filter(|(path, _)| !path.contains("running"))
    {
        assert!(variable.equal(&other_vs.variables()[&path]), "{path}");
    }
    loss(&net).backward();
}

#[test]
fn a_failure_at_any_step_of_masking_changes_nothing() {
    let (mut net, _vs) = Net::new();
    let steps = fails_at_every_step(&mut net, Prunable::mask);
    // γ and β of at least one layer, each computed and exchanged; checks.
    assert!(steps > 30, "{steps} steps");
    assert_eq!(net.split.sizes(), [4, 4]);
}

#[test]
fn a_failure_at_any_step_of_loading_changes_nothing() {
    let (mut net, vs) = Net::new();
    let (mut slim, mut slim_vs) = Net::new();
    slim_vs.copy(&vs).unwrap();
    slim.apply(&net.plan(&Slimming::ratio(0.4)).unwrap()).unwrap();
    // Every variable gets a value: with another shape if the variable shrinks, otherwise in place.
    let load = |net: &mut Net, plan: &Plan| {
        let values = vs.variables().into_iter().map(|(name, target)| {
            let value = slim_vs.variables()[&name].detach().copy();
            Value { name, target, value }
        });
        let graph = analysis::trace(net, Masking::BatchNorm)?;
        apply_with(net, &graph, plan, values.collect())
    };
    let steps = fails_at_every_step(&mut net, load);
    assert!(steps > 150, "{steps} steps");
    for (name, variable) in vs.variables() {
        assert!(variable.equal(&slim_vs.variables()[&name]), "{name}");
    }
}

#[test]
fn a_failure_at_any_step_of_expanding_changes_nothing() {
    let (mut net, vs) = Net::new();
    let (mut slim, mut slim_vs) = Net::new();
    slim_vs.copy(&vs).unwrap();
    slim.apply(&net.plan(&Slimming::ratio(0.4)).unwrap()).unwrap();
    let steps = fails_at_every_step(&mut net, |net, plan| plan.expand(&slim, net));
    // For each of 18 tensors: the new values are computed, then copied, with a step before and
    // after.
    assert_eq!(steps, 18 * 3);
}

#[test]
fn a_failure_at_any_step_of_recalibration_changes_nothing() {
    let (mut net, _vs) = Net::new();
    let recalibrate = |net: &mut Net, _: &Plan| {
        recalibrate(net, [images(), images()], |net, images| Ok(net.forward_t(&images, true)))
    };
    let steps = fails_at_every_step(&mut net, recalibrate);
    // Three batch norms: two batches, with a step before and after each; the average; the write.
    assert_eq!(steps, 3 * 6);
}

/// The forms of a model during a trial.
const FORMS: [fn(&Net) -> ModelState; 3] =
    [|_| ModelState::Masked, |_| ModelState::Slimmed, corrected];

/// Another weight for the linear layer.
fn corrected(net: &Net) -> ModelState {
    let (name, target) = ("fc.weight".to_owned(), net.fc.ws.shallow_clone());
    ModelState::Corrected(vec![Value { name, target, value: net.fc.ws.detach().ones_like() }])
}

#[test]
fn a_failure_at_any_step_of_a_trial_changes_nothing() {
    for form in FORMS {
        let (mut net, _vs) = Net::new();
        let trial = |net: &mut Net, plan: &Plan| {
            let graph = analysis::trace(net, plan.masking())?;
            let form = form(net);
            temporarily(net, &graph, plan, form, |net| net.forward_t(&images(), false))
        };
        let _ = loss(&net);
        let statistics = Bits::of(&net.bn.running_mean);
        let steps = fails_at_every_step(&mut net, trial);
        // The random initial values decide how many layers lose channels.
        assert!(steps > 45, "{steps} steps");
        assert_eq!(net.split.sizes(), [4, 4]);
        assert_eq!(Bits::of(&net.bn.running_mean).address, statistics.address);
    }
}

#[test]
fn a_trial_is_taken_back_whatever_the_closure_does() {
    let (mut net, _vs) = Net::new();
    loss(&net).backward();
    let alive = loss(&net);
    let plan = net.plan(&Slimming::ratio(0.4)).unwrap();
    let before = Snapshot::of(&net);
    let mut leaks = Vec::new();
    for form in FORMS {
        let [first, second, third, last] = std::array::from_fn(|_| form(&net));
        let graph = analysis::trace(&net, Masking::BatchNorm).unwrap();
        let _ = temporarily(&mut net, &graph, &plan, first, |net| net.forward_t(&images(), false))
            .unwrap();
        assert_eq!(Snapshot::of(&net), before);

        let error =
            temporarily(&mut net, &graph, &plan, second, |net| net.forward_t(&images(), true))
                .unwrap_err();
        assert!(error.to_string().starts_with("the closure changed `bn.running_mean`"), "{error}");
        assert_eq!(Snapshot::of(&net), before);

        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = temporarily(&mut net, &graph, &plan, third, |net| {
                let _ = net.forward_t(&images(), true);
                panic!("of the closure")
            });
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"of the closure"));
        assert_eq!(Snapshot::of(&net), before);

        // An autograd graph of the trial that outlives the trial.
        let leaked = temporarily(&mut net, &graph, &plan, last, |net| {
            tch::with_grad(|| net.forward_t(&images(), false))
        })
        .unwrap();
        assert!(leaked.requires_grad());
        leaks.push(leaked);
        assert_eq!(Snapshot::of(&net), before);
    }
    // Backward passes through a graph from before and through a new one reach the gradients, while
    // the graphs of the trials are alive.
    let grad = || net.fc.ws.grad().copy();
    let mut last = grad();
    for loss in [alive, loss(&net)] {
        loss.backward();
        assert!(!grad().equal(&last));
        last = grad();
    }
    drop(leaks);
}
