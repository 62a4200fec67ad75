//! Penalties: their gradients against autograd's, their proximal steps, and what is refused.

use slim_runtime::error::{ArgumentError, SelectionError};
use slim_runtime::{Error, Penalty, Prunable, Slimming, model};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
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
