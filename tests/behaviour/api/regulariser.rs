//! Penalties: their gradients against autograd's, their proximal steps, and what is refused.

use slim_runtime::error::{ArgumentError, PlanError, SelectionError};
use slim_runtime::{Error, Penalty, Plan, Prunable, Slimming, model};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

model! {
    /// Two convolutions make one sum, a flatten spreads its channels over positions.
    #[derive(Debug)]
    struct Net {
        conv1 = conv2d(3 => 4, kernel = 3, padding = 1, bias = true);
        bn1 = batch_norm(4);
        a = relu;
        conv2 = conv2d(4 => 6, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(6);
        relu;
        conv3 = conv2d(6 => 4, kernel = 3, padding = 1, bias = false);
        bn3 = batch_norm(4);
        bn3 + a;
        relu;
        max_pool(2);
        flatten;
        fc = linear(4 * 9 => 5);
    }
}

fn net() -> (Net, VarStore) {
    let mut vs = VarStore::new(device());
    let net = Net::new(vs.root());
    fill(&vs);
    vs.double();
    (net, vs)
}

fn backward(net: &Net) {
    let xs = images(&[2, 3, 6, 6]).to_kind(Kind::Double).to_device(device());
    net.forward_t(&xs, true).square().mean(Kind::Double).backward();
}

fn zero_gradients(vs: &VarStore) {
    vs.trainable_variables().iter_mut().for_each(Tensor::zero_grad);
}

/// The groups of the sum and of `conv2`, written out: for each channel, what goes with it.
fn group_norms(vs: &VarStore) -> Vec<Tensor> {
    let all = vs.variables();
    let of = |name: &str, dim: i64, channel: i64| all[name].select(dim, channel).flatten(0, -1);
    let mut norms = Vec::new();
    for channel in 0..4 {
        let positions = all["fc.weight"].narrow(1, channel * 9, 9).flatten(0, -1);
        let mut parts = vec![
            of("conv1.weight", 0, channel),
            of("conv2.weight", 1, channel),
            of("conv3.weight", 0, channel),
            positions,
        ];
        for name in ["conv1.bias", "bn1.weight", "bn1.bias", "bn3.weight", "bn3.bias"] {
            parts.push(all[name].narrow(0, channel, 1));
        }
        norms.push(Tensor::cat(&parts, 0).square().sum(Kind::Double).sqrt());
    }
    for channel in 0..6 {
        let mut parts = vec![of("conv2.weight", 0, channel), of("conv3.weight", 1, channel)];
        for name in ["bn2.weight", "bn2.bias"] {
            parts.push(all[name].narrow(0, channel, 1));
        }
        norms.push(Tensor::cat(&parts, 0).square().sum(Kind::Double).sqrt());
    }
    norms
}

/// The growing penalty by its formula: the squares of the groups that a plan removes.
fn removed_squares(vs: &VarStore, plan: &Plan) -> Tensor {
    let keeps = |layer: &str, channel: usize| {
        let axis = plan.layer(layer).unwrap().axis("channels").unwrap();
        axis.keep.iter().any(|kept| kept == channel)
    };
    let groups = (0..4).map(|at| keeps("bn3", at)).chain((0..6).map(|at| keeps("bn2", at)));
    let norms = group_norms(vs).into_iter().zip(groups);
    let removed: Vec<_> = norms.filter(|(_, kept)| !kept).map(|(norm, _)| norm.square()).collect();
    Tensor::stack(&removed, 0).sum(Kind::Double)
}

/// The penalty by its formula.
fn formula(vs: &VarStore, penalty: Penalty) -> Tensor {
    let scales =
        ["bn1.weight", "bn2.weight", "bn3.weight"].map(|name| vs.variables()[name].shallow_clone());
    match penalty {
        Penalty::L1 => Tensor::cat(&scales, 0).abs().sum(Kind::Double),
        Penalty::L2 => Tensor::cat(&scales, 0).square().sum(Kind::Double),
        _ => Tensor::stack(&group_norms(vs), 0).sum(Kind::Double),
    }
}

#[test]
fn gradients_are_those_of_the_formula() {
    for penalty in [Penalty::L1, Penalty::L2, Penalty::GroupLasso] {
        let (net, vs) = net();
        let regulariser = net.regulariser(penalty).unwrap();
        let value = formula(&vs, penalty).double_value(&[]);
        assert!((regulariser.value().unwrap() - value).abs() < 1e-12 * value, "{penalty:?}");

        backward(&net);
        (formula(&vs, penalty) * 0.3).backward();
        let expected: Vec<_> =
            vs.trainable_variables().iter().map(|variable| variable.grad().copy()).collect();
        zero_gradients(&vs);
        backward(&net);
        regulariser.add_gradient(0.3).unwrap();
        for (variable, expected) in vs.trainable_variables().iter().zip(expected) {
            assert!(
                variable.grad().allclose(&expected, 1e-12, 1e-12, false),
                "{penalty:?} {:?}",
                variable.size()
            );
        }
    }
}

#[test]
fn growing_regularisation_is_that_of_the_groups_that_a_plan_removes() {
    let (net, vs) = net();
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let removed = |layer: &str| {
        let axis = plan.layer(layer).unwrap().axis("channels").unwrap();
        axis.width - axis.keep.len()
    };
    assert!((1..4).contains(&removed("bn3")) && (1..6).contains(&removed("bn2")));
    let growing = plan.regulariser(&net).unwrap();
    let value = removed_squares(&vs, &plan).double_value(&[]);
    assert!((growing.value().unwrap() - value).abs() < 1e-12 * value);

    backward(&net);
    (removed_squares(&vs, &plan) * 0.3).backward();
    let gradients = || -> Vec<Tensor> {
        vs.trainable_variables().iter().map(|variable| variable.grad().copy()).collect()
    };
    let expected = gradients();
    zero_gradients(&vs);
    backward(&net);
    growing.add_gradient(0.3).unwrap();
    for (found, expected) in gradients().iter().zip(expected) {
        assert!(found.allclose(&expected, 1e-12, 1e-12, false), "{:?}", found.size());
    }

    // The gradient of the sum is 2nw, from which the proximal step of each value follows.
    zero_gradients(&vs);
    removed_squares(&vs, &plan).backward();
    let shrunk: Vec<Tensor> = vs
        .trainable_variables()
        .iter()
        .map(|variable| variable.detach() / (variable.grad() / variable.detach() * 0.2 + 1.))
        .collect();
    let counts = |variable: &Tensor| -> Vec<i64> {
        let counts = (variable.grad() / variable.detach() / 2.).round().to_kind(Kind::Int64);
        Vec::try_from(counts.flatten(0, -1)).unwrap()
    };
    assert!([0, 1, 2].iter().all(|n| counts(&vs.variables()["conv2.weight"]).contains(n)));
    growing.shrink(0.2).unwrap();
    for (found, expected) in vs.trainable_variables().iter().zip(shrunk) {
        assert!(found.allclose(&expected, 1e-12, 1e-12, false), "{:?}", found.size());
    }

    let nothing = net.plan(&Slimming::ratio(0.)).unwrap().regulariser(&net).unwrap_err();
    assert!(
        matches!(nothing, Error::Selection(SelectionError::NothingToPrune { .. })),
        "{nothing}"
    );
    let (mut slim, _vs) = self::net();
    slim.apply(&plan).unwrap();
    assert!(matches!(plan.regulariser(&slim), Err(Error::Plan(PlanError::Mismatch { .. }))));
}

/// Each operation is given its weights in bfloat16, as autocast does; the batch norm keeps γ and β
/// in float32. `tch::autocast` switches autocast for CUDA: on a CPU, these casts stand in for it.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Mixed {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    fc: nn::Linear,
}

impl Mixed {
    fn new(vs: &VarStore) -> Self {
        let p = &vs.root();
        let net = Mixed {
            conv: nn::conv2d(p / "conv", 3, 6, 3, Default::default()),
            bn: nn::batch_norm2d(p / "bn", 6, Default::default()),
            fc: nn::linear(p / "fc", 6, 4, Default::default()),
        };
        fill(vs);
        net
    }

    fn loss(&self) -> Tensor {
        let half = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        let xs = half(&images(&[4, 3, 6, 6]).to_device(device()));
        let bias = self.conv.bs.as_ref().map(half);
        let xs = xs.conv2d(&half(&self.conv.ws), bias, [1, 1], [0, 0], [1, 1], 1);
        let xs = xs.apply_t(&self.bn, true).relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1);
        let xs = half(&xs).linear(&half(&self.fc.ws), self.fc.bs.as_ref().map(half));
        assert_eq!(xs.kind(), Kind::BFloat16);
        xs.to_kind(Kind::Float).square().mean(Kind::Float)
    }
}

/// The bits of γ's gradient, after checking that both are float32.
fn gamma_gradient(net: &Mixed) -> Vec<f32> {
    let gamma = net.bn.ws.as_ref().unwrap();
    assert_eq!((gamma.kind(), gamma.grad().kind()), (Kind::Float, Kind::Float));
    Vec::try_from(gamma.grad()).unwrap()
}

#[test]
fn in_mixed_precision_the_penalty_is_exact_in_float32() {
    let s = 1e-4;
    let vs = VarStore::new(device());
    let net = Mixed::new(&vs);
    let gamma = Vec::<f32>::try_from(net.bn.ws.as_ref().unwrap().detach()).unwrap();
    let runs: [&dyn Fn() -> Tensor; 2] = [&|| net.loss(), &|| tch::autocast(true, || net.loss())];
    for loss in runs {
        zero_gradients(&vs);
        loss().backward();
        let before = gamma_gradient(&net);
        assert!(before.iter().any(|gradient| *gradient != 0.));
        let step = s as f32;
        let expected: Vec<f32> =
            before.iter().zip(&gamma).map(|(it, gamma)| it + step * gamma.signum()).collect();
        net.add_l1_subgradient(s).unwrap();
        assert_eq!(gamma_gradient(&net), expected);

        // A scaled loss: unscaled before the penalty, or a scaled factor and unscaled behind it.
        let unscale = || {
            for variable in vs.trainable_variables() {
                let _ = variable.grad().g_div_scalar_(1024.);
            }
        };
        for unscales_first in [true, false] {
            zero_gradients(&vs);
            (loss() * 1024.).backward();
            if unscales_first {
                unscale();
                net.add_l1_subgradient(s).unwrap();
            } else {
                net.add_l1_subgradient(1024. * s).unwrap();
                unscale();
            }
            for (found, expected) in gamma_gradient(&net).iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-6 * expected.abs() + 1e-9);
            }
        }
    }
}

#[test]
fn parameters_in_half_precision_lose_a_small_penalty() {
    let mut vs = VarStore::new(device());
    let net = Mixed::new(&vs);
    vs.bfloat16();
    let gamma = net.bn.ws.as_ref().unwrap();
    assert_eq!(gamma.kind(), Kind::BFloat16);
    (gamma * 0.1).sum(Kind::BFloat16).backward();
    let before = gamma.grad().copy();
    net.add_l1_subgradient(1e-4).unwrap();
    assert!(gamma.grad().equal(&before));
    net.add_l1_subgradient(1e-2).unwrap();
    assert!(!gamma.grad().equal(&before));
}

#[test]
fn a_group_of_zeros_has_a_gradient_of_zero() {
    let (net, vs) = net();
    tch::no_grad(|| {
        let all = vs.variables();
        for (name, dim) in
            [("conv2.weight", 0), ("conv3.weight", 1), ("bn2.weight", 0), ("bn2.bias", 0)]
        {
            let _ = all[name].select(dim, 2).zero_();
        }
    });
    let regulariser = net.regulariser(Penalty::GroupLasso).unwrap();
    backward(&net);
    zero_gradients(&vs);
    regulariser.add_gradient(1.).unwrap();
    let gradient = |name: &str| vs.variables()[name].grad();
    assert_eq!(gradient("bn2.weight").double_value(&[2]), 0.);
    assert_ne!(gradient("bn2.weight").double_value(&[1]), 0.);
    let finite = |variable: &Tensor| variable.grad().isfinite().all().int64_value(&[]) == 1;
    assert!(vs.trainable_variables().iter().all(finite));
}

#[test]
fn a_proximal_step_makes_scales_exactly_zero() {
    let (net, vs) = net();
    let scales = || -> Vec<f64> {
        let names = ["bn1.weight", "bn2.weight", "bn3.weight"];
        let all = names.map(|name| vs.variables()[name].detach());
        Vec::try_from(Tensor::cat(&all, 0)).unwrap()
    };
    let before = scales();
    let t = 0.5 * before.iter().map(|scale| scale.abs()).fold(0., f64::max);
    net.regulariser(Penalty::L1).unwrap().shrink(t).unwrap();
    let soft = |scale: &f64| scale.signum() * (scale.abs() - t).max(0.);
    let expected: Vec<f64> = before.iter().map(soft).collect();
    assert_eq!(scales(), expected);
    assert!(expected.contains(&0.) && expected.iter().any(|scale| *scale != 0.));

    let before = scales();
    net.regulariser(Penalty::L2).unwrap().shrink(0.25).unwrap();
    let expected: Vec<f64> = before.iter().map(|scale| scale / 1.5).collect();
    assert_eq!(scales(), expected);
}

#[test]
fn what_cannot_be_is_refused() {
    let (mut net, _vs) = net();
    let lasso = net.regulariser(Penalty::GroupLasso).unwrap();
    assert!(matches!(lasso.add_gradient(0.1), Err(Error::Selection(SelectionError::NoGradient))));
    for factor in [-1., f64::NAN, f64::INFINITY] {
        let error = lasso.add_gradient(factor).unwrap_err();
        assert!(matches!(error, Error::Argument(ArgumentError::SparsityFactor(_))), "{error}");
    }
    insta::assert_snapshot!(lasso.shrink(0.1).unwrap_err());
    backward(&net);
    net.apply(&net.plan(&Slimming::ratio(0.5)).unwrap()).unwrap();
    assert!(matches!(lasso.add_gradient(0.1), Err(Error::Torch { .. })));
    backward(&net);
    net.regulariser(Penalty::GroupLasso).unwrap().add_gradient(0.1).unwrap();
}
