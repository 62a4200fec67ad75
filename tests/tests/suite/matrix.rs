//! Kinds, flags and layouts of variables: whatever they are, slimming selects values and changes nothing else, and the slimmed network computes what the
//! masked one does.

use std::collections::BTreeMap;

use slim_runtime::nn::{Shuffle, Split, shuffle, split};
use slim_runtime::{Dim, Plan, Prunable, Slimming, model};
use slim_tests::fill::fill;
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{assert_same, mask_by_name, values};

const KINDS: [Kind; 4] = [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double];

model! {
    #[derive(Debug)]
    struct Chain {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1);
        bn1 = batch_norm(8);
        relu;
        conv2 = conv2d(8 => 6, kernel = 3, padding = 1);
        bn2 = batch_norm(6);
        relu;
        adaptive_avg_pool(2);
        flatten;
        fc = linear(24 => 5);
    }
}

model! {
    #[derive(Debug)]
    struct Residual {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        a = relu;
        conv2 = conv2d(8 => 8, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(8);
        bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(8 => 5);
    }
}

/// Half of the channels go around a convolution, and all are shuffled.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
struct Shuffled {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    split: Split,
    #[prune(from = split.1)]
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[prune(from = [split.0, bn2])]
    shuffle: Shuffle,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

/// Two convolutions with one weight.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
struct Tied {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

trait Network: Prunable + ModuleT {
    fn new(p: &nn::Path) -> Self;
}

impl Network for Chain {
    fn new(p: &nn::Path) -> Self {
        Chain::new(p)
    }
}

impl Network for Residual {
    fn new(p: &nn::Path) -> Self {
        Residual::new(p)
    }
}

fn conv(p: nn::Path, inputs: i64, outputs: i64) -> nn::Conv2D {
    nn::conv2d(p, inputs, outputs, 3, nn::ConvConfig { padding: 1, bias: false, ..Default::default() })
}

fn norm(p: nn::Path, channels: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, channels, Default::default())
}

fn head(xs: &Tensor, fc: &nn::Linear) -> Tensor {
    xs.relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(fc)
}

impl Network for Shuffled {
    fn new(p: &nn::Path) -> Self {
        Shuffled {
            conv1: conv(p / "conv1", 3, 8),
            bn1: norm(p / "bn1", 8),
            split: split([4, 4]),
            conv2: conv(p / "conv2", 4, 4),
            bn2: norm(p / "bn2", 4),
            shuffle: shuffle(8, 2),
            conv3: conv(p / "conv3", 8, 6),
            bn3: norm(p / "bn3", 6),
            fc: nn::linear(p / "fc", 6, 5, Default::default()),
        }
    }
}

impl ModuleT for Shuffled {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let halves = self.split.forward(&xs);
        let changed = halves[1].apply(&self.conv2).apply_t(&self.bn2, train).relu();
        let xs = Tensor::cat(&[&halves[0], &changed], 1).apply(&self.shuffle);
        head(&xs.apply(&self.conv3).apply_t(&self.bn3, train), &self.fc)
    }
}

impl Network for Tied {
    fn new(p: &nn::Path) -> Self {
        let conv2 = conv(p / "conv2", 8, 8);
        let mut conv3 = conv(p / "unused", 8, 8);
        conv3.ws = conv2.ws.shallow_clone();
        Tied {
            conv1: conv(p / "conv1", 3, 8),
            bn1: norm(p / "bn1", 8),
            conv2,
            bn2: norm(p / "bn2", 8),
            conv3,
            bn3: norm(p / "bn3", 8),
            fc: nn::linear(p / "fc", 8, 5, Default::default()),
        }
    }
}

impl ModuleT for Tied {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        head(&xs.apply(&self.conv3).apply_t(&self.bn3, train), &self.fc)
    }
}

/// What a store is like when its network is slimmed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition {
    Plain,
    /// Every variable is frozen.
    Frozen,
    /// Every second variable is frozen.
    HalfFrozen,
    /// A `no_grad` guard is held meanwhile.
    NoGrad,
    Gradients,
    /// Weights of convolutions, and with them their gradients, have the channels innermost.
    ChannelsLast,
    /// Every variable is every second value of a larger tensor.
    Strided,
}

const CONDITIONS: [Condition; 7] = [
    Condition::Plain,
    Condition::Frozen,
    Condition::HalfFrozen,
    Condition::NoGrad,
    Condition::Gradients,
    Condition::ChannelsLast,
    Condition::Strided,
];

impl Condition {
    fn prepare(self, vs: &mut VarStore) {
        match self {
            Condition::Plain | Condition::NoGrad => {}
            Condition::Frozen => vs.freeze(),
            Condition::HalfFrozen => {
                let sorted: BTreeMap<_, _> = vs.variables().into_iter().collect();
                sorted.into_values().step_by(2).for_each(|variable| drop(variable.set_requires_grad(false)));
            }
            Condition::Gradients => give_gradients(vs),
            Condition::ChannelsLast => {
                for mut weight in vs.variables().into_values().filter(|variable| variable.dim() == 4) {
                    weight.set_data(&weight.detach().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]));
                }
                give_gradients(vs);
            }
            Condition::Strided => {
                for mut variable in vs.variables().into_values() {
                    let value = variable.detach();
                    variable.set_data(&Tensor::stack(&[&value, &value], -1).select(-1, 0));
                }
            }
        }
    }

    fn hold<R>(self, work: impl FnOnce() -> R) -> R {
        let _guard = (self == Condition::NoGrad).then(tch::no_grad_guard);
        work()
    }
}

/// 2 for a value of 1, and so on: as many different ones as there are values.
fn give_gradients(vs: &VarStore) {
    vs.trainable_variables().iter().for_each(|variable| variable.square().sum(variable.kind()).backward());
}

fn build<N: Network>(kind: Kind, condition: Condition) -> (N, VarStore) {
    tch::set_num_threads(1);
    let mut vs = VarStore::new(Device::Cpu);
    let net = N::new(&vs.root());
    fill(&vs);
    vs.set_kind(kind);
    condition.prepare(&mut vs);
    (net, vs)
}

/// Of the largest output: a few units in the last place, as sums are taken in another order.
fn tolerance(kind: Kind) -> f64 {
    let digits = match kind {
        Kind::Half => 10,
        Kind::BFloat16 => 7,
        Kind::Float => 23,
        _ => 52,
    };
    16. * 0.5_f64.powi(digits)
}

/// What must not change: kind, device, whether it is trained, whether it has a gradient.
fn nature(vs: &VarStore) -> BTreeMap<String, (Kind, Device, bool, bool)> {
    let of = |tensor: &Tensor| (tensor.kind(), tensor.device(), tensor.requires_grad(), tensor.grad().defined());
    vs.variables().iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect()
}

fn gradients(vs: &VarStore) -> BTreeMap<String, Tensor> {
    let with = vs.variables().into_iter().filter(|(_, variable)| variable.grad().defined());
    with.map(|(name, variable)| (name, variable.grad().copy())).collect()
}

/// Dimensions of more than one position, outermost first.
fn order(tensor: &Tensor) -> Vec<usize> {
    let (size, stride) = (tensor.size(), tensor.stride());
    let mut dims: Vec<_> = (0..size.len()).filter(|&dim| size[dim] > 1).collect();
    dims.sort_by_key(|&dim| std::cmp::Reverse(stride[dim]));
    dims
}

/// What the plan says must be left of tensors with the names of variables.
fn selected(plan: &Plan, tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut selected: BTreeMap<_, _> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    for layer in plan.layers() {
        for planned in layer.tensors.iter().filter(|tensor| tensor.tied.is_none()) {
            let Some(tensor) = selected.get_mut(&format!("{}.{}", layer.path, planned.name)) else { continue };
            for (dim, axis) in planned.dims.iter().enumerate() {
                let Dim::Axis(axis) = axis else { continue };
                let keep: Vec<_> = layer.axis(axis).unwrap().keep.iter().map(|position| position as i64).collect();
                *tensor = tensor.index_select(dim as i64, &Tensor::from_slice(&keep));
            }
        }
    }
    selected
}

fn check<N: Network>(kind: Kind, condition: Condition) {
    let (mut net, vs) = build::<N>(kind, condition);
    let (was, before, grads) = (nature(&vs), values(&vs), gradients(&vs));
    let orders = |vs: &VarStore| -> BTreeMap<_, _> { vs.variables().iter().map(|(name, tensor)| (name.clone(), order(tensor))).collect() };
    let order_before = orders(&vs);
    let plan = condition.hold(|| net.plan(&Slimming::ratio(0.5))).unwrap();
    assert!(plan.channels().removed() > 0.3, "{plan}");

    let (mut masked, masked_vs) = build::<N>(kind, condition);
    condition.hold(|| masked.mask(&plan)).unwrap();
    let (_, by_name) = build::<N>(kind, condition);
    mask_by_name(&by_name, &plan);
    assert_same(&values(&masked_vs), &values(&by_name));
    assert_eq!(nature(&masked_vs), was);

    condition.hold(|| net.apply(&plan)).unwrap();
    assert_same(&values(&vs), &selected(&plan, &before));
    assert_same(&gradients(&vs), &selected(&plan, &grads));
    assert_eq!(nature(&vs), was);
    if condition != Condition::Strided {
        let size_one = |vs: &VarStore, name: &str| vs.variables()[name].size().contains(&1);
        for (name, order) in orders(&vs) {
            assert!(order == order_before[&name] || size_one(&vs, &name), "{name} has the dimensions in another order");
        }
        for (name, variable) in vs.variables().iter().filter(|(_, variable)| variable.grad().defined()) {
            assert_eq!(order(&variable.grad()), order(variable), "the gradient of {name} has the dimensions in another order");
        }
    }

    let images = slim_tests::fill::images(&[2, 3, 6, 6]).to_kind(kind);
    let run = |net: &N, images: &Tensor| tch::no_grad(|| net.forward_t(images, false));
    let (found, expected) = (run(&net, &images).to_kind(Kind::Double), run(&masked, &images).to_kind(Kind::Double));
    slim_tests::check::assert_close(&found, &expected, tolerance(kind));
    assert_eq!(run(&net, &images.narrow(0, 0, 0)).size(), [0, 5]);
    assert_goes_on(&net, &vs, &images, condition);
}

/// Training: the penalty is added to what has a gradient, and a step changes what is not frozen.
fn assert_goes_on<N: Network>(net: &N, vs: &VarStore, images: &Tensor, condition: Condition) {
    if condition == Condition::Frozen {
        // Nothing is trained, so there is nothing to add and nothing missing.
        return net.add_l1_subgradient(1e-3).unwrap();
    }
    let before = values(vs);
    let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(vs, 0.1).unwrap();
    optimizer.zero_grad();
    net.forward_t(images, true).square().sum(images.kind()).backward();
    let without = gradients(vs);
    condition.hold(|| net.add_l1_subgradient(0.5)).unwrap();
    let with = gradients(vs);
    for (name, with) in &with {
        let scale = name.starts_with("bn") && name.ends_with("weight");
        let expected = if scale { &without[name] + before[name].sign() * 0.5 } else { without[name].shallow_clone() };
        assert!(with.equal(&expected), "{name}");
        assert_eq!(with.kind(), images.kind());
    }
    assert!(with.contains_key("bn1.weight") || condition == Condition::HalfFrozen);
    optimizer.step();
    let changed = |name: &str| !vs.variables()[name].equal(&before[name]);
    let expected = |variable: &Tensor| variable.requires_grad() && variable.grad().defined();
    for (name, variable) in vs.variables() {
        let statistic = name.contains("running");
        assert!(statistic || !changed(&name) || expected(&variable), "{name} is frozen and has changed");
    }
    assert!(["fc.weight", "fc.bias"].iter().any(|name| changed(name)));
}

fn check_all<N: Network>() {
    for kind in KINDS {
        for condition in CONDITIONS {
            println!("{kind:?}, {condition:?}");
            check::<N>(kind, condition);
        }
    }
}

#[test]
fn a_chain_of_any_kind_in_any_condition() {
    check_all::<Chain>();
}

#[test]
fn a_residual_network_of_any_kind_in_any_condition() {
    check_all::<Residual>();
}

#[test]
fn a_split_and_shuffled_network_of_any_kind_in_any_condition() {
    check_all::<Shuffled>();
}

#[test]
fn tied_weights_of_any_kind_in_any_condition() {
    check_all::<Tied>();
}

#[derive(Debug, Prunable)]
struct Odd {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    #[prune(per_channel)]
    scale: Tensor,
    fc: nn::Linear,
}

impl Odd {
    fn new(p: &nn::Path, scale: &[i64], classes: i64) -> Self {
        Odd {
            conv1: conv(p / "conv1", 3, 8),
            bn1: norm(p / "bn1", 8),
            scale: p.ones("scale", scale),
            fc: nn::linear(p / "fc", 8, classes, Default::default()),
        }
    }
}

#[test]
fn a_scalar_where_each_channel_has_a_value_is_refused() {
    for size in [&[][..], &[0]] {
        let vs = VarStore::new(Device::Cpu);
        let mut net = Odd::new(&vs.root(), size, 5);
        let before = values(&vs);
        let error = net.slim(0.5).unwrap_err();
        assert!(error.to_string().starts_with("`scale"), "{error}");
        assert_same(&values(&vs), &before);
    }
}

#[test]
fn a_weight_without_values_is_slimmed_by_its_shape() {
    let vs = VarStore::new(Device::Cpu);
    let mut net = Odd::new(&vs.root(), &[8], 0);
    net.slim(0.5).unwrap();
    assert_eq!(net.fc.ws.size(), [0, 3]);
    assert_eq!(vs.variables()["fc.weight"].size(), [0, 3]);
}
