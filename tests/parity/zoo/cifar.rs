//! The CIFAR networks equal the reference implementation's, before and after slimming.
//! `tests/fixtures/cifar.py` is the oracle.

use slim_runtime::{Plan, Prunable, Slimming};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use slim_tests::fill::images;
use slim_zoo::densenet_cifar::DenseNet;
use slim_zoo::preresnet::PreResNet;
use tch::nn::{self, ModuleT};

use crate::oracle::{assert_slims, filled, forward, parameters};
use slim_tests::fixture::Fixture;

fn preresnet(depth: usize) -> impl Fn(&nn::Path) -> PreResNet {
    move |p| PreResNet::new(p, depth, 10).unwrap()
}

fn densenet(depth: usize) -> impl Fn(&nn::Path) -> DenseNet {
    move |p| DenseNet::new(p, depth as i64, 10).unwrap()
}

/// Asserts the same parameters and function before slimming, and the same threshold, cfg and
/// function afterwards.
fn assert_the_references<M: ModuleT + Prunable>(
    case: &str,
    build: impl Fn(usize) -> Box<dyn Fn(&nn::Path) -> M>,
) {
    let case = Fixture::read(&format!("zoo/{case}"));
    let input = images(&[2, 3, 32, 32]);
    let (mut net, vs) = filled(build(case.get("depth")));
    assert_eq!(parameters(&vs), case.get::<i64>("dense_parameters"));
    let tolerance = rounding(&vs);
    assert_close(&forward(&net, &input), case.tensor("dense_output"), tolerance);

    let slimmed = net.slim(case.get("percent")).unwrap();
    assert_eq!(slimmed.plan().threshold(), Some(case.get("threshold")));
    assert_eq!(slimmed.cfg().to_string(), case.metadata["cfg"]);
    assert_eq!(slimmed.plan().bounded().count(), case.get::<usize>("floored"));
    assert_eq!(parameters(&vs), case.get::<i64>("parameters"));
    assert_eq!(slimmed.plan().parameters().after, case.get::<i64>("parameters"));
    let output = forward(&net, &input);
    assert_close(&output, case.tensor("masked_output"), tolerance);
    assert_close(&output, case.tensor("slim_output"), tolerance);
}

#[test]
fn resnets_are_slimmed_as_by_the_reference() {
    for case in
        ["preresnet11_most", "preresnet11_nearly_all", "preresnet20_half", "preresnet164_some"]
    {
        assert_the_references(case, |depth| Box::new(preresnet(depth)));
    }
}

#[test]
fn densenets_are_slimmed_as_by_the_reference() {
    for case in ["densenet13_half", "densenet13_nearly_all", "densenet40_some"] {
        assert_the_references(case, |depth| Box::new(densenet(depth)));
    }
}

#[test]
fn full_size_networks_have_the_papers_figures() {
    let figures = |plan: Plan| {
        (
            plan.channels().before,
            plan.removable(),
            plan.cfg().stages().len(),
            plan.parameters().before,
        )
    };
    let none = Slimming::ratio(0.);
    assert_eq!(
        figures(filled(preresnet(164)).0.plan(&none).unwrap()),
        (12_112, 12_112, 163, 1_703_258)
    );
    assert_eq!(figures(filled(densenet(40)).0.plan(&none).unwrap()), (9_360, 9_360, 39, 1_059_298));
}

#[test]
fn slimmed_resnets_are_the_masked_ones() {
    assert_slims(preresnet(164), 32);
}

#[test]
fn slimmed_densenets_are_the_masked_ones() {
    assert_slims(densenet(40), 32);
}

#[test]
fn a_resnet_can_be_slimmed_again() {
    let input = images(&[2, 3, 32, 32]);
    let (mut net, vs) = filled(preresnet(20));
    let (mut masked, _masked_vs) = filled(preresnet(20));
    net.slim(0.3).unwrap();
    masked.slim(0.3).unwrap();
    let plan = net.plan(&Slimming::ratio(0.3)).unwrap();
    masked.mask(&plan).unwrap();
    net.apply(&plan).unwrap();
    assert_close(&forward(&net, &input), &forward(&masked, &input), rounding(&vs));
}

#[test]
fn depths_that_do_not_exist_are_refused() {
    let vs = nn::VarStore::new(device());
    insta::assert_snapshot!(PreResNet::new(vs.root(), 18, 10).unwrap_err(), @"a pre-activation ResNet has a depth of 9n + 2, such as 164, not 18");
    insta::assert_snapshot!(DenseNet::new(vs.root(), 39, 10).unwrap_err(), @"a DenseNet of three blocks has a depth of 3n + 4, such as 40, not 39");
}

#[test]
fn preresnet_20_at_half() {
    insta::assert_snapshot!(filled(preresnet(20)).0.plan(&Slimming::ratio(0.5)).unwrap());
}

#[test]
fn densenet_40_at_half() {
    insta::assert_snapshot!(filled(densenet(40)).0.plan(&Slimming::ratio(0.5)).unwrap());
}
