//! Rounding to a multiple that is measured.

use slim_runtime::{Plan, Prunable, Slimming, preferred_multiple};
use tch::nn::VarStore;
use tch::{Device, Kind};

use crate::common::Net;

#[test]
fn what_is_chosen_was_measured() {
    tch::set_num_threads(1); // other tests run beside this one
    let preferred = preferred_multiple(Device::Cpu, Kind::Float).unwrap();
    let multiples: Vec<_> = preferred.tried.iter().map(|tried| tried.multiple).collect();
    assert_eq!(multiples, [1, 2, 4, 8, 16, 32, 64]);
    assert!(multiples.contains(&preferred.multiple));
    assert!(
        preferred.tried.is_sorted_by(|a, b| a.work <= b.work),
        "rounding up never takes work away"
    );
    assert_eq!(preferred.tried[0].work, 1.);
    let chosen = preferred.tried.iter().find(|tried| tried.multiple == preferred.multiple).unwrap();
    assert!(chosen.times_as_fast.median >= 1.);
    assert_eq!((preferred.device.as_str(), preferred.kind.as_str()), ("cpu", "float"));
}

#[test]
fn a_plan_keeps_the_number_and_not_the_question() {
    tch::set_num_threads(1);
    let net = Net::with_known_scores(&VarStore::new(Device::Cpu).root());
    let slimming = Slimming::ratio(0.5).round_for(Device::Cpu, Kind::Float).unwrap();
    let again = match slimming.bounds.round_to {
        Some(rounding) => Slimming::ratio(0.5).round_to(rounding.multiple),
        None => Slimming::ratio(0.5),
    };
    let plan = net.plan(&slimming).unwrap();
    assert_eq!(plan, net.plan(&again).unwrap());
    assert_eq!(plan, Plan::from_json(&plan.to_json().unwrap()).unwrap());
}

#[test]
fn what_a_device_cannot_do_is_an_error() {
    let error = preferred_multiple(Device::Cpu, Kind::Bool).unwrap_err().to_string();
    assert!(error.contains("a convolution to measure"), "{error}");
}
