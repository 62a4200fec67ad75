//! `plan.json`: any text is refused, or gives a plan that can be printed, counted and written, and
//! applied to the network that it is for.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use slim_runtime::criterion::{L2, Normalisation};
use slim_runtime::{Coupling, Plan, Prunable, Slimming, Target};
use slim_tests::fill::images;
use slim_tests::networks::{Chain, Network, Residual, Shuffled, Tied, built};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use crate::guard::{corpus, fuzz};
use crate::mutation::{mutated, mutations, pieces};

fn plan<N: Network>(ratio: f64) -> String {
    built::<N>().0.plan(&Slimming::ratio(ratio)).unwrap().to_json().unwrap()
}

fn sound() -> Vec<String> {
    let of = |ratio| {
        [
            plan::<Chain>(ratio),
            plan::<Residual>(ratio),
            plan::<Shuffled>(ratio),
            plan::<Tied>(ratio),
        ]
    };
    [0., 0.3, 0.9].into_iter().flat_map(of).chain([rich()]).collect()
}

/// A plan with nearly all options, and an earlier pass.
fn rich() -> String {
    let (mut net, _vs) = built::<Chain>();
    let images = images(&[1, 3, 4, 4]);
    let cost = net.cost(|net| net.forward_t(&images, false)).unwrap();
    let slimming = Slimming::macs(0.7, &cost)
        .unwrap()
        .criterion(L2)
        .normalisation(Normalisation::Max)
        .coupling(Coupling::Mean);
    let first = net
        .plan(
            &slimming
                .at_least(3)
                .max_removed(0.8)
                .round_to(1)
                .layers("conv2", Target::TopK(5))
                .keep("fc"),
        )
        .unwrap();
    net.apply(&first).unwrap();
    first.then(&net.plan(&Slimming::ratio(0.2).local()).unwrap()).unwrap().to_json().unwrap()
}

fn dictionary() -> Vec<Vec<u8>> {
    let deep = ["[", "{\"a\":", "{\"layers\":["].map(|piece| piece.repeat(10_000));
    let mut dictionary = pieces(&deep.each_ref().map(String::as_str));
    dictionary.extend(pieces(&[
        "0",
        "1",
        "2",
        "3",
        "7",
        "-1",
        "-0",
        "0.5",
        "1e308",
        "1e400",
        "4294967296",
        "4294967297",
        "4398046511104",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "0-7",
        "0-3,5",
        "7-0",
        "0-9223372036854775806",
        "0-4294967295",
        "0,2,4,6",
        "null",
        "true",
        "\"\"",
        "\"in\"",
        "\"out\"",
        "{}",
        "[]",
        "\"",
        ",",
        "\\u0000",
        "\\ud800",
        "\u{1f980}",
        "\"format\": 2,",
        "\"bounded\": {\"wanted\": 99, \"by\": [\"needed\"]},",
        "\"criterion\": \"random(99999999999999999999)\",",
        "\"masking\": \"parameters\",",
        "\"target\": {\"macs\": {\"share\": 0.5, \"uses\": {\"conv1.weight\": 18446744073709551615}}},",
        "\"target\": {\"top_k\": 18446744073709551615},",
        "\"keep\": [\"[\"],",
        "\"tied\": \"conv1.weight\",",
        "\"threshold\": null,",
    ]));
    dictionary
}

fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

fn carry_out<N: Network>(plan: &Plan) -> bool {
    let (mut net, vs) = built::<N>();
    let (before, tolerance) = (values(&vs), slim_tests::check::rounding(&vs));
    let unchanged =
        |vs: &VarStore| vs.variables().iter().all(|(name, tensor)| *tensor == before[name]);
    if let Err(error) = net.mask(plan) {
        assert!(!error.to_string().is_empty() && unchanged(&vs));
        // A plan that cannot be masked cannot be applied either.
        assert!(net.apply(plan).is_err() && unchanged(&vs));
        return false;
    }
    let run = |net: &N| tch::no_grad(|| net.forward_t(&images(&[1, 3, 4, 4]), false));
    let masked = run(&net);
    net.apply(plan).unwrap();
    slim_tests::check::assert_close(&run(&net), &masked, tolerance);
    true
}

fn check(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let plan = match Plan::from_json(text) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(error.to_string().len() < 1000 + 10 * text.len());
            return false;
        }
    };
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    assert!(!plan.to_string().is_empty());
    let _ = (plan.cfg().to_string(), plan.removable(), plan.bounded().count());
    for change in [plan.channels(), plan.parameters()] {
        assert!(
            change.after <= change.before && (0. ..=1.).contains(&change.removed()),
            "{change:?}"
        );
    }
    assert!((0. ..=1.).contains(&plan.reached()));
    plan.layers().iter().for_each(|layer| {
        assert!(plan.layer(&layer.path).is_some() && layer.parameters().after >= 0);
    });
    // At most one of the networks is the plan's own.
    let carried_out = [
        carry_out::<Chain>(&plan),
        carry_out::<Residual>(&plan),
        carry_out::<Shuffled>(&plan),
        carry_out::<Tied>(&plan),
    ];
    let carried_out = carried_out.into_iter().filter(|&carried_out| carried_out).count();
    assert!(carried_out <= 1);
    carried_out == 1
}

#[test]
fn plans() {
    let input = (select(sound()), mutations(dictionary()))
        .prop_map(|(text, mutations)| mutated(text.as_bytes(), &mutations));
    fuzz(1500, input, |text| check(text));
}

#[test]
fn plans_of_the_corpus() {
    corpus("plans", check);
    sound().iter().for_each(|text| assert!(check(text.as_bytes())));
}
