//! The L1 subgradient on γ.

use slim_runtime::error::{ArgumentError, SelectionError};
use slim_runtime::{Error, Prunable};
use slim_tests::{device, tensor};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

use crate::common::{Net, images};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::with_known_scores(&vs.root()), vs)
}

fn backward(net: &Net) {
    net.forward_t(&images(2), true).square().mean(Kind::Float).backward();
}

fn gradients(vs: &VarStore) -> Vec<(String, Tensor)> {
    let mut gradients: Vec<_> = vs
        .variables()
        .into_iter()
        .filter(|(_, variable)| variable.requires_grad())
        .map(|(name, variable)| (name, variable.grad().copy()))
        .collect();
    gradients.sort_by(|a, b| a.0.cmp(&b.0));
    gradients
}

#[test]
fn adds_s_times_the_sign_to_scales_and_to_nothing_else() {
    let (net, vs) = net();
    crate::common::set(&net.bn2, &[0.5, -0.5, 0., 1e-30, -1e-30, 3.]);
    backward(&net);
    let before = gradients(&vs);
    net.add_l1_subgradient(0.25).unwrap();
    for ((name, before), (_, after)) in before.iter().zip(gradients(&vs)) {
        let added = match name.as_str() {
            "bn1.weight" => tensor(&[0.25_f32, -0.25, 0.25, -0.25, 0.25, -0.25, 0.25, -0.25]),
            "bn2.weight" => tensor(&[0.25_f32, -0.25, 0., 0.25, -0.25, 0.25]),
            _ => before.zeros_like(),
        };
        assert!(after.equal(&(before + added)), "{name}");
    }
}

#[test]
fn works_on_the_slimmed_network() {
    let (mut net, vs) = net();
    net.slim(0.25).unwrap();
    backward(&net);
    let before = net.bn1.ws.as_ref().unwrap().grad().copy();
    net.add_l1_subgradient(1.).unwrap();
    let after = vs.variables()["bn1.weight"].grad();
    assert!(after.equal(&(before + tensor(&[1_f32, -1., 1., -1.]))));
}

#[test]
fn says_when_it_is_called_too_early() {
    let (net, _vs) = net();
    let error = net.add_l1_subgradient(1e-4).unwrap_err();
    assert!(matches!(error, Error::Selection(SelectionError::NoGradient)));
    assert!(error.to_string().contains("behind `backward`"), "{error}");
}

#[test]
fn leaves_a_frozen_model_alone() {
    let (net, mut vs) = net();
    vs.freeze();
    net.add_l1_subgradient(1e-4).unwrap();
}

#[test]
fn refuses_factors_that_are_none() {
    let (net, _vs) = net();
    backward(&net);
    for s in [-1e-4, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            net.add_l1_subgradient(s),
            Err(Error::Argument(ArgumentError::SparsityFactor(_)))
        ));
    }
}
