//! Options on random networks: bounds and budgets hold, and a network masked by every parameter
//! computes what the slimmed one computes.

use proptest::prelude::*;
use slim_runtime::criterion::{Fpgm, L1, L2, Random};
use slim_runtime::error::SelectionError;
use slim_runtime::{Error, Plan, Prunable, Slimming};

use crate::check::{assert_close, assert_slimmed_is_masked, mask};
use crate::net::Net;
use crate::{cases, cost, grow, rank};

/// Slimmings that rank by weights, not by γ.
fn by_weights() -> impl Strategy<Value = Slimming> {
    (0.0..0.999, 0..4_u64, any::<bool>(), 0..100_u64).prop_map(|(ratio, which, bounded, seed)| {
        let slimming = Slimming::ratio(ratio);
        let slimming = if bounded { slimming.at_least(2).round_to(2) } else { slimming };
        match which {
            0 => slimming.criterion(L1),
            1 => slimming.criterion(L2),
            2 => slimming.criterion(Fpgm),
            _ => slimming.criterion(Random { seed }),
        }
    })
}

/// The widths, before and after, of the axes that ranked layers make or scale.
fn widths(plan: &Plan) -> impl Iterator<Item = (usize, usize)> {
    let axes =
        plan.layers().iter().filter(|layer| layer.scored.is_some()).flat_map(|layer| &layer.axes);
    axes.filter(|axis| ["out", "channels"].contains(&axis.name.as_str()))
        .map(|axis| (axis.width, axis.keep.len()))
}

fn planned(net: &Net, slimming: &Slimming) -> Result<Option<Plan>, TestCaseError> {
    match net.plan(slimming) {
        Ok(plan) => Ok(Some(plan)),
        Err(
            Error::Selection(SelectionError::NothingToPrune { .. })
            | Error::Selection(SelectionError::NoRanking { .. })
            | Error::Selection(SelectionError::OutOfReach { .. }),
        ) => Ok(None),
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn slimmed_is_masked_by_every_parameter(graph in grow::graph(rank()), slimming in by_weights()) {
        let (mut net, vs) = Net::new(&graph);
        if let Some(plan) = planned(&net, &slimming)? {
            let ((ours, _our_vs), (mut theirs, _their_vs)) = (Net::new(&graph), Net::new(&graph));
            mask(&ours, &plan);
            theirs.mask(&plan).unwrap();
            // The mask of these tests does not touch tensors that a group carries through, which
            // are zero anyway.
            assert_close(&theirs.forward(&theirs.images()), &ours.forward(&ours.images()));
        }
        assert_slimmed_is_masked(&mut net, &vs, &slimming);
    }

    #[test]
    fn widths_are_multiples_and_within_bounds(
        graph in grow::graph(rank()),
        ratio in 0.0..0.999,
        (multiple, down) in (1..6_usize, any::<bool>()),
        (at_least, share) in (1..4_usize, 0.3..1.0),
    ) {
        let slimming = Slimming::ratio(ratio).at_least(at_least).max_removed(share);
        let slimming = if down { slimming.round_down_to(multiple) } else { slimming.round_to(multiple) };
        let (mut net, vs) = Net::new(&graph);
        let Some(plan) = planned(&net, &slimming)? else { return Ok(()) };
        for (before, after) in widths(&plan) {
            prop_assert!(after == before || after.is_multiple_of(multiple), "{after} of {before}");
            prop_assert!(after >= at_least.min(before) && after > 0, "{after} of {before}");
            prop_assert!((before - after) as f64 <= before as f64 * share, "{after} of {before}");
        }
        assert_slimmed_is_masked(&mut net, &vs, &slimming);
    }

    #[test]
    fn a_budget_is_kept_and_used(graph in grow::graph(rank()), share in 0.05..1.0, rounded in any::<bool>()) {
        let slimming = if rounded { Slimming::params(share).round_to(2) } else { Slimming::params(share) };
        let (net, _vs) = Net::new(&graph);
        let Some(plan) = planned(&net, &slimming)? else { return Ok(()) };
        let most = (plan.parameters().before as f64 * share) as i64;
        prop_assert!(plan.parameters().after <= most, "{} of at most {most}", plan.parameters().after);
        // If the channels with the largest removed score stayed, the budget would be exceeded.
        if let (Some(threshold), false) = (plan.threshold(), rounded) {
            let larger = net.plan(&Slimming::threshold(threshold.next_down())).unwrap().parameters().after;
            prop_assert!(larger > most, "{larger} of at most {most} would do");
        }
    }

    #[test]
    fn a_budget_of_macs_is_kept_and_used(graph in grow::graph(rank()), share in 0.05..1.0) {
        let (net, _vs) = Net::new(&graph);
        let cost = cost::found(&net);
        let Ok(slimming) = Slimming::macs(share, &cost) else { return Ok(()) };
        let Some(plan) = planned(&net, &slimming)? else { return Ok(()) };
        let most = (cost.macs().unwrap() as f64 * share) as i64;
        let after = |plan: &Plan| cost.after(plan).unwrap().macs().unwrap();
        prop_assert!(after(&plan) <= most, "{} of at most {most}", after(&plan));
        if let Some(threshold) = plan.threshold() {
            let larger = after(&net.plan(&Slimming::threshold(threshold.next_down())).unwrap());
            prop_assert!(larger > most, "{larger} of at most {most} would do");
        }
    }
}
