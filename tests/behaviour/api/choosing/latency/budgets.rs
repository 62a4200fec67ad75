//! Budgets: the largest network that a table predicts to be fast enough.

use std::collections::BTreeSet;

use slim_runtime::{Plan, Prunable, Slimming};
use tch::Tensor;
use tch::nn::ModuleT;

use super::{affine, by_hand, coarse, of_macs, preresnet, vgg11};

/// The plan with the next more channels by the same scores.
fn next_larger<M: Prunable>(net: &M, plan: &Plan) -> Plan {
    let mut more = plan.channels().after as usize + 1..;
    let larger = more.find_map(|k| {
        let larger = net.plan(&Slimming::top_k(k)).unwrap();
        (larger.channels().after > plan.channels().after).then_some(larger)
    });
    larger.unwrap()
}

fn meets_its_budget<M: Prunable + ModuleT>(net: &M, image: &Tensor) {
    let table = by_hand(net, image, coarse, affine);
    for share in [0.8, 0.5, 0.35] {
        let slimming = Slimming::latency(share, &table).unwrap();
        let plan = net.plan(&slimming).unwrap();
        let predicted = table.predict(&plan).unwrap();
        assert!(predicted.share() <= share, "{share}: {predicted}");
        let larger = table.predict(&next_larger(net, &plan)).unwrap();
        assert!(larger.share() > share, "{share}: {larger}");
        assert_eq!(plan, net.plan(&slimming).unwrap());
        assert_eq!(plan, Plan::from_json(&plan.to_json().unwrap()).unwrap());
        let said = format!(
            "{:.1} % of the latency asked for, {:.1} % predicted",
            100. * share,
            100. * predicted.share()
        );
        assert!(plan.to_string().contains(&said), "{plan}");

        for slimming in [slimming.clone().round_to(4), slimming.round_down_to(4)] {
            let rounded = net.plan(&slimming).unwrap();
            let predicted = table.predict(&rounded).unwrap();
            assert!(predicted.share() <= share, "{share}: {predicted}");
            // The budget is used: four channels of a layer are a few per cent.
            assert!(predicted.share() > 0.85 * share, "{share}: {predicted}");
            assert!(rounded.cfg().widths().all(|width| width % 4 == 0), "{}", rounded.cfg());
        }
    }
}

#[test]
fn a_budget_of_latency_is_the_largest_network_within_it() {
    let (net, image) = vgg11();
    meets_its_budget(&net, &image);
}

#[test]
fn a_budget_of_latency_holds_on_residual_streams() {
    let (net, image) = preresnet();
    meets_its_budget(&net, &image);
}

#[test]
fn times_that_are_macs_lead_to_the_plan_of_macs() {
    fn is_equal<M: Prunable + ModuleT>(net: &M, image: &Tensor) {
        let cost = net.cost(|net| net.forward_t(image, false)).unwrap();
        let table = of_macs(net, image);
        for share in [0.9, 0.5, 0.3] {
            let by_macs = net.plan(&Slimming::macs(share, &cost).unwrap()).unwrap();
            let by_time = net.plan(&Slimming::latency(share, &table).unwrap()).unwrap();
            assert_eq!(by_time.layers(), by_macs.layers());
            assert_eq!(by_time.threshold(), by_macs.threshold());
        }
    }
    let (net, image) = vgg11();
    is_equal(&net, &image);
    let (net, image) = preresnet();
    is_equal(&net, &image);
}

#[test]
fn a_table_in_which_wider_layers_are_faster_still_has_its_budget_met() {
    let (net, image) = vgg11();
    // Widths that are no multiple of 8 take twice as long.
    let uneven = |path: &str, rows: u64, columns: u64| {
        affine(path, rows, columns) * if (rows % 8, columns % 8) == (0, 0) { 1 } else { 2 }
    };
    let widths = |width: u64| {
        let widths: BTreeSet<u64> = (1..=width).step_by(7).chain([width]).collect();
        widths.into_iter().collect()
    };
    let table = by_hand(&net, &image, widths, uneven);
    for share in [0.7, 0.4] {
        let slimming = Slimming::latency(share, &table).unwrap();
        let plan = net.plan(&slimming).unwrap();
        assert!(table.predict(&plan).unwrap().share() <= share);
        assert!(table.predict(&next_larger(&net, &plan)).unwrap().share() > share);
        assert_eq!(plan, net.plan(&slimming).unwrap());
    }
}

#[test]
fn a_budget_of_latency_is_one_of_the_whole_network_also_where_layers_share_it() {
    let (net, image) = vgg11();
    let table = by_hand(&net, &image, coarse, affine);
    let slimming = Slimming::latency(0.5, &table).unwrap();
    let local = net.plan(&slimming.clone().local()).unwrap();
    let share = table.predict(&local).unwrap().share();
    assert!(share <= 0.5 && share > 0.45, "{share}");
    let error = net.plan(&Slimming::ratio(0.5).layers("feature.0", slimming.target)).unwrap_err();
    assert!(error.to_string().contains("cannot have a budget of their own"), "{error}");
}

#[test]
fn a_budget_that_cannot_be_reached_is_an_error() {
    let (net, image) = vgg11();
    let table = by_hand(&net, &image, coarse, |_, rows, _| 1_000_000 + rows);
    insta::assert_snapshot!(net.plan(&Slimming::latency(0.5, &table).unwrap()).unwrap_err());
    insta::assert_snapshot!(net.plan(&Slimming::latency(1.5, &table).unwrap()).unwrap_err());
}
