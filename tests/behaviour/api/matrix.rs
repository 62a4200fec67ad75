//! Kinds, flags and layouts of variables: slimming selects values and changes nothing else, and the
//! slimmed network computes what the masked network computes.

use std::collections::BTreeMap;

use slim_runtime::{Dim, Plan, Prunable, Slimming};
use slim_tests::device;
use slim_tests::networks::{Chain, Network, Residual, Shuffled, Tied, built};
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{assert_same, mask_by_name, values};

const KINDS: [Kind; 4] = [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double];

/// The state of a store when its network is slimmed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition {
    Plain,
    /// Every variable is frozen.
    Frozen,
    /// Every second variable is frozen.
    HalfFrozen,
    /// A `no_grad` guard is held during the call.
    NoGrad,
    Gradients,
    /// Weights of convolutions and their gradients have the channels innermost.
    ChannelsLast,
    /// Every variable consists of every second value of a larger tensor.
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
                sorted
                    .into_values()
                    .step_by(2)
                    .for_each(|variable| drop(variable.set_requires_grad(false)));
            }
            Condition::Gradients => give_gradients(vs),
            Condition::ChannelsLast => {
                for mut weight in
                    vs.variables().into_values().filter(|variable| variable.dim() == 4)
                {
                    weight.set_data(
                        &weight.detach().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
                    );
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

/// Sets each gradient to twice the value, so that distinct values have distinct gradients.
fn give_gradients(vs: &VarStore) {
    vs.trainable_variables()
        .iter()
        .for_each(|variable| variable.square().sum(variable.kind()).backward());
}

fn build<N: Network>(kind: Kind, condition: Condition) -> (N, VarStore) {
    let (net, mut vs) = built::<N>();
    vs.set_kind(kind);
    condition.prepare(&mut vs);
    (net, vs)
}

/// The properties that must not change: kind, device, whether it is trained, whether it has a
/// gradient.
fn nature(vs: &VarStore) -> BTreeMap<String, (Kind, Device, bool, bool)> {
    let of = |tensor: &Tensor| {
        (tensor.kind(), tensor.device(), tensor.requires_grad(), tensor.grad().defined())
    };
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

/// The parts of the tensors that the plan keeps. The names are those of the variables.
fn selected(plan: &Plan, tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut selected: BTreeMap<_, _> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    for layer in plan.layers() {
        for planned in layer.tensors.iter().filter(|tensor| tensor.tied.is_none()) {
            let Some(tensor) = selected.get_mut(&format!("{}.{}", layer.path, planned.name)) else {
                continue;
            };
            for (dim, axis) in planned.dims.iter().enumerate() {
                let Dim::Axis(axis) = axis else { continue };
                let keep: Vec<_> =
                    layer.axis(axis).unwrap().keep.iter().map(|position| position as i64).collect();
                *tensor = tensor.index_select(dim as i64, &slim_tests::tensor(&keep));
            }
        }
    }
    selected
}

fn check<N: Network>(kind: Kind, condition: Condition) {
    let (mut net, vs) = build::<N>(kind, condition);
    let (was, before, grads) = (nature(&vs), values(&vs), gradients(&vs));
    let orders = |vs: &VarStore| -> BTreeMap<_, _> {
        vs.variables().iter().map(|(name, tensor)| (name.clone(), order(tensor))).collect()
    };
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
            assert!(
                order == order_before[&name] || size_one(&vs, &name),
                "{name} has the dimensions in another order"
            );
        }
        for (name, variable) in
            vs.variables().iter().filter(|(_, variable)| variable.grad().defined())
        {
            assert_eq!(
                order(&variable.grad()),
                order(variable),
                "the gradient of {name} has the dimensions in another order"
            );
        }
    }

    let images = slim_tests::fill::images(&[2, 3, 6, 6]).to_kind(kind);
    let run = |net: &N, images: &Tensor| tch::no_grad(|| net.forward_t(images, false));
    let (found, expected) =
        (run(&net, &images).to_kind(Kind::Double), run(&masked, &images).to_kind(Kind::Double));
    slim_tests::check::assert_close(&found, &expected, slim_tests::check::rounding(&vs));
    assert_eq!(run(&net, &images.narrow(0, 0, 0)).size(), [0, 5]);
    assert_goes_on(&net, &vs, &images, condition);
}

/// Asserts that training goes on: the penalty is added to existing gradients, and a step changes
/// the variables that are not frozen.
fn assert_goes_on<N: Network>(net: &N, vs: &VarStore, images: &Tensor, condition: Condition) {
    if condition == Condition::Frozen {
        // Nothing is trained, so nothing is added and no gradient is missing.
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
        let expected = if scale {
            &without[name] + before[name].sign() * 0.5
        } else {
            without[name].shallow_clone()
        };
        assert!(with.equal(&expected), "{name}");
        assert_eq!(with.kind(), images.kind());
    }
    assert!(with.contains_key("bn1.weight") || condition == Condition::HalfFrozen);
    optimizer.step();
    let changed = |name: &str| !vs.variables()[name].equal(&before[name]);
    let expected = |variable: &Tensor| variable.requires_grad() && variable.grad().defined();
    for (name, variable) in vs.variables() {
        let statistic = name.contains("running");
        assert!(
            statistic || !changed(&name) || expected(&variable),
            "{name} is frozen and has changed"
        );
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
#[prune(sequential)]
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
            conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()),
            bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
            scale: p.ones("scale", scale),
            fc: nn::linear(p / "fc", 8, classes, Default::default()),
        }
    }
}

#[test]
fn a_scalar_where_each_channel_has_a_value_is_refused() {
    for size in [&[][..], &[0]] {
        let vs = VarStore::new(device());
        let mut net = Odd::new(&vs.root(), size, 5);
        let before = values(&vs);
        let error = net.slim(0.5).unwrap_err();
        assert!(error.to_string().starts_with("`scale"), "{error}");
        assert_same(&values(&vs), &before);
    }
}

#[test]
fn a_weight_without_values_is_slimmed_by_its_shape() {
    let vs = VarStore::new(device());
    let mut net = Odd::new(&vs.root(), &[8], 0);
    net.slim(0.5).unwrap();
    assert_eq!(net.fc.ws.size(), [0, 3]);
    assert_eq!(vs.variables()["fc.weight"].size(), [0, 3]);
}
