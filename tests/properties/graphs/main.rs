//! Random graphs of everything that can be pruned: slimmed = masked, and plans agree with brute
//! force.
//!
//! A network is data (`graph`), grown from random numbers (`gene`, `grow`, `blocks`, `reuse`).
//! `net` runs and traces it, with its layers in `parts`, and `oracle` computes the expected plan,
//! from what `links` says of each op. They are written independently of each other and of the
//! library, so a mistake in the meaning of an operation shows as a difference. `sequences` has
//! networks of attention and recurrence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod blocks;
mod check;
mod choosing;
mod cost;
mod coverage;
mod dependencies;
mod deploy;
mod gene;
mod graph;
mod group_norms;
mod grow;
mod links;
mod net;
mod oracle;
mod parts;
mod regularisers;
mod reuse;
mod sequences;

use proptest::prelude::*;
use slim_runtime::error::SelectionError;
use slim_runtime::{Coupling, Error, Plan, Prunable, Slimming, checkpoint};

use check::{
    assert_absorbed_is_dense, assert_close, assert_same_bits, assert_slimmed_is_masked, expected,
    found, mask, values,
};
use net::Net;

/// The rank of the images, mostly two.
fn rank() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(1_usize), 6 => Just(2), 1 => Just(3)]
}

/// Slimmings with any target, coupling, bounds and scope; about half have a ratio and no bounds.
fn slimming() -> impl Strategy<Value = Slimming> {
    let target = prop_oneof![
        4 => (0.0..0.999).prop_map(Slimming::ratio),
        1 => (0.0..1.5).prop_map(Slimming::threshold),
        1 => (1..40_usize).prop_map(Slimming::top_k),
    ];
    let coupling = prop_oneof![Just(Coupling::Max), Just(Coupling::Mean), Just(Coupling::Sum)];
    let bounds = prop_oneof![
        2 => Just((None, None)),
        1 => (proptest::option::of(1..6_usize), proptest::option::of(0.0..1.0)),
    ];
    (target, coupling, bounds, proptest::bool::weighted(0.3)).prop_map(
        |(slimming, coupling, (at_least, max_removed), local)| {
            let slimming = slimming.coupling(coupling);
            let slimming =
                at_least.map_or(slimming.clone(), |channels| slimming.at_least(channels));
            let slimming =
                max_removed.map_or(slimming.clone(), |share| slimming.max_removed(share));
            if local { slimming.local() } else { slimming }
        },
    )
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn slimmed_is_masked_and_slims_again(graph in grow::graph(rank()), ratios in [0.0..0.999, 0.0..0.999]) {
        let (mut net, vs) = Net::new(&graph);
        if assert_slimmed_is_masked(&mut net, &vs, &Slimming::ratio(ratios[0])) {
            assert_slimmed_is_masked(&mut net, &vs, &Slimming::ratio(ratios[1]));
        }
    }

    #[test]
    fn absorbed_is_dense(graph in grow::graph(rank()), ratio in 0.0..0.999) {
        let (mut net, vs) = Net::new(&graph);
        assert_absorbed_is_dense(&mut net, &vs, ratio);
    }

    #[test]
    fn a_plan_is_what_brute_force_finds(graph in grow::graph(rank()), slimming in slimming()) {
        let (net, _vs) = Net::new(&graph);
        match net.plan(&slimming) {
            Ok(plan) => prop_assert_eq!(Some(found(&net, &plan)), expected(&net, &slimming)),
            Err(Error::Selection(SelectionError::NothingToPrune { .. }) | Error::Selection(SelectionError::NoRanking { .. }) | Error::Selection(SelectionError::OutOfReach { .. })) => {
                prop_assert_eq!(expected(&net, &slimming), None);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn dependencies_are_what_plans_do(graph in grow::graph(rank()), slimming in slimming(), pick in any::<u16>()) {
        let (net, _vs) = Net::new(&graph);
        let found = net.dependencies().unwrap();
        let edges = found.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        prop_assert_eq!(dependencies::expected_edges(&graph), edges);
        if let Ok(plan) = net.plan(&slimming) {
            dependencies::assert_is_of_one_mind(&found, &plan);
        }
        dependencies::assert_goes_alone(&net, &found, usize::from(pick));
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn deployed_is_the_network_with_what_can_be_folded(graph in grow::graph(rank()), ratio in proptest::option::of(0.0..0.999)) {
        let (mut net, vs) = Net::new(&graph);
        if let Some(ratio) = ratio {
            let _ = net.slim(ratio);
        }
        let before = values(&vs);
        if let Some(deployed) = deploy::assert_deployed_is_the_network(&mut net) {
            let (found, [mut known, possible]) = (deploy::found(&deployed), deploy::expected(&graph));
            prop_assert!(known.is_subset(&found), "{:?} of {:?}", found, known);
            known.extend(possible);
            prop_assert!(found.is_subset(&known), "{:?} of {:?}", found, known);
        }
        assert_same_bits(&values(&vs), &before);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn ratio_zero_changes_nothing(graph in grow::graph(rank())) {
        let (mut net, vs) = Net::new(&graph);
        let (images, before) = (net.images(), values(&vs));
        let outputs = net.forward(&images);
        let plan = match net.slim(0.) {
            Ok(slimmed) => slimmed.plan().clone(),
            Err(_) => return Ok(()),
        };
        assert_same_bits(&values(&vs), &before);
        prop_assert_eq!(plan.threshold(), None);
        prop_assert_eq!(net.forward(&images), outputs);
    }

    #[test]
    fn a_cost_is_what_formulas_say_and_follows_the_plan(graph in grow::graph(rank()), ratio in 0.0..0.999) {
        let (mut net, _vs) = Net::new(&graph);
        let cost = cost::found(&net);
        prop_assert_eq!(cost.macs().ok(), cost::expected(&graph));
        let Ok(plan) = net.plan(&Slimming::ratio(ratio)) else { return Ok(()) };
        let after = cost.after(&plan).unwrap();
        prop_assert_eq!((cost.parameters(), after.parameters()), (plan.parameters().before, plan.parameters().after));
        net.apply(&plan).unwrap();
        prop_assert_eq!(after, cost::found(&net));
    }

    #[test]
    fn a_replica_takes_the_plan_by_way_of_its_file(graph in grow::graph(rank()), ratio in 0.0..0.999) {
        let (mut net, vs) = Net::new(&graph);
        let plan = match net.slim(ratio) {
            Ok(slimmed) => slimmed.plan().clone(),
            Err(_) => return Ok(()),
        };
        let (mut replica, replica_vs) = Net::new(&graph);
        let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        prop_assert_eq!(&read, &plan);
        replica.apply(&read).unwrap();
        assert_same_bits(&values(&replica_vs), &values(&vs));
        let images = net.images();
        prop_assert_eq!(replica.forward(&images), net.forward(&images));

        let ((ours, our_vs), (mut theirs, their_vs)) = (Net::new(&graph), Net::new(&graph));
        mask(&ours, &plan);
        theirs.mask(&plan).unwrap();
        assert_same_bits(&values(&their_vs), &values(&our_vs));
    }

    #[test]
    fn slimmed_twice_is_slimmed_by_the_composed_plan(graph in grow::graph(rank()), ratios in [0.0..0.999, 0.0..0.999, 0.0..0.5]) {
        let (mut net, vs) = Net::new(&graph);
        let slimmed = ratios.iter().map_while(|&ratio| net.slim(ratio).ok()).reduce(|all, next| all.then(&next).unwrap());
        let Some(all) = slimmed else { return Ok(()) };
        let (mut replica, replica_vs) = Net::new(&graph);
        let dense = values(&replica_vs);
        let again = replica.apply(all.plan()).unwrap();
        prop_assert_eq!(&again, &all);
        assert_same_bits(&values(&replica_vs), &values(&vs));
        let images = net.images();
        prop_assert_eq!(replica.forward(&images), net.forward(&images));
        check::assert_original_channels(&net, all.plan(), &dense);
        let read: Plan = serde_json::from_str(&serde_json::to_string(all.plan()).unwrap()).unwrap();
        prop_assert_eq!(&read, all.plan());
    }

    #[test]
    fn expanded_is_the_slim_function_in_the_dense_shape(graph in grow::graph(rank()), ratios in [0.0..0.999, 0.0..0.999]) {
        let (mut net, vs) = Net::new(&graph);
        let slimmed = ratios.iter().map_while(|&ratio| net.slim(ratio).ok()).reduce(|all, next| all.then(&next).unwrap());
        let Some(slimmed) = slimmed else { return Ok(()) };
        let (mut dense, dense_vs) = Net::new(&graph);
        let unbound = values(&dense_vs);
        slimmed.plan().expand(&net, &mut dense).unwrap();
        let images = net.images();
        assert_close(&dense.forward(&images), &net.forward(&images));
        check::assert_store_is_expanded(&dense, &dense_vs, slimmed.plan(), &unbound);
        // Applying the plan to the expanded network restores every bit.
        dense.apply(slimmed.plan()).unwrap();
        assert_same_bits(&values(&dense_vs), &values(&vs));
    }

    #[test]
    fn a_file_makes_a_dense_network_the_slimmed_one(graph in grow::graph(rank()), ratio in 0.0..0.999) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slim.safetensors");
        let (mut net, vs) = Net::new(&graph);
        let Ok(slimmed) = net.slim(ratio) else { return Ok(()) };
        tch::no_grad(|| vs.variables().values_mut().for_each(|variable| _ = variable.g_mul_scalar_(1.5)));
        checkpoint::save(&file, &vs, &slimmed).unwrap();
        let (mut other, mut other_vs) = Net::new(&graph);
        for _ in 0..2 {
            // The network is dense at first, and slimmed the second time.
            prop_assert_eq!(&checkpoint::load(&file, &mut other_vs, &mut other).unwrap(), &slimmed);
            assert_same_bits(&values(&other_vs), &values(&vs));
            let images = net.images();
            prop_assert_eq!(other.forward(&images), net.forward(&images));
            tch::no_grad(|| other_vs.variables().values_mut().for_each(|variable| _ = variable.zero_()));
        }
    }
}
