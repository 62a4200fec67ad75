//! Requests that are refused, with the errors that a user reads.

use slim_runtime::{Prunable, Slimming, Target};
use slim_tests::device;
use tch::nn::VarStore;

use crate::common::Net;

#[test]
fn each_says_the_rule_and_the_fix() {
    let vs = VarStore::new(device());
    let net = Net::with_known_scores(&vs.root());
    let half = || Slimming::ratio(0.5);
    let refused = [
        Slimming::threshold(f64::NAN),
        Slimming::top_k(0),
        Slimming::top_k(1),
        Slimming::params(0.),
        Slimming::params(1.5),
        Slimming::params(0.01),
        Slimming::params(0.01).local(),
        Slimming::params(0.1).layers("**", Target::Ratio(0.1)),
        Slimming::params(0.1).local().layers("**", Target::Ratio(0.1)),
        Slimming::params(0.01).isomorphic(),
        Slimming::params(0.5).at_least(8),
        half().max_removed(1.1),
        half().max_removed(f64::NAN),
        half().round_to(0),
        half().keep("bn3"),
        half().keep("conv["),
        half().layers("layer***", Target::Ratio(0.5)),
        half().layers("bn1", Target::Params(0.5)),
        half().layers("bn1", Target::Ratio(1.)),
        half().layers("layer1.bn1", Target::Ratio(0.5)),
        half().keep("*"),
    ];
    let errors: Vec<_> = refused
        .iter()
        .map(|slimming| net.plan(slimming).map(|plan| plan.to_string()).unwrap_err().to_string())
        .collect();
    insta::assert_snapshot!(errors.join("\n"));
    insta::assert_snapshot!(net.explain(&half(), "bn9").unwrap_err());
}
