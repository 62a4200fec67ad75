//! CRNN equals PyTorch's. `tests/fixtures/crnn.py` is the oracle.

use slim_runtime::{Prunable, Slimming, criterion};
use slim_tests::check::{assert_close, assert_slimmed_is_masked, rounding};
use slim_tests::fill::images;
use slim_tests::fixture::Fixture;
use slim_zoo::crnn::Crnn;
use tch::Kind;

use crate::oracle::{filled, forward, parameters, state};

#[test]
fn names_and_outputs_are_pytorchs() {
    let oracle = Fixture::read("zoo/crnn");
    let (net, vs) = filled(|p| Crnn::new(p, 256, 37));
    assert_eq!(state(&vs), oracle.metadata["state"].lines().map(str::to_owned).collect());
    assert_eq!(parameters(&vs), oracle.get::<i64>("parameters"));
    let output = forward(&net, &images(&[2, 1, 32, 100]));
    assert_close(&output, oracle.tensor("output"), rounding(&vs));

    let by_weights = Slimming::ratio(0.5).criterion(criterion::L2).local();
    let plan = net.plan(&by_weights).unwrap();
    assert_eq!(plan.parameters().before, parameters(&vs), "every parameter is reached");
    insta::assert_snapshot!(plan);
}

#[test]
fn slimmed_is_masked() {
    let xs = images(&[2, 1, 32, 40]).to_kind(Kind::Double);
    let double = || {
        let (net, mut vs) = filled(|p| Crnn::narrowed(p, 12, 7, 16));
        vs.double();
        (net, vs)
    };
    let by_scale = Slimming::ratio(0.5);
    let by_weights = by_scale.clone().criterion(criterion::L2).local();
    for slimming in [by_scale, by_weights] {
        let plan = assert_slimmed_is_masked(double, &xs, &slimming, 1e-9);
        assert!(plan.parameters().after < plan.parameters().before);
    }
}
