//! Random graphs of everything that can be pruned: slimmed = masked, and plans are what brute force finds.
//!
//! A network is data (`graph`), grown from random numbers (`gene`, `grow`, `blocks`, `reuse`). One file runs and traces it (`net`, with its layers in `parts`), and another
//! says what a plan should be (`oracle`, from what `links` says of each op): written independently of each other and of the library, so a mistake in
//! what an operation means shows as a difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod blocks;
mod check;
mod coverage;
mod gene;
mod graph;
mod grow;
mod links;
mod net;
mod oracle;
mod parts;
mod reuse;

use proptest::prelude::*;
use slim_runtime::{Coupling, Error, Plan, Prunable, Slimming};

use check::{assert_absorbed_is_dense, assert_same_bits, assert_slimmed_is_masked, expected, found, mask, values};
use net::Net;

/// Mostly two dimensions.
fn rank() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(1_usize), 6 => Just(2), 1 => Just(3)]
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
    fn a_plan_is_what_brute_force_finds(graph in grow::graph(rank()), ratio in 0.0..0.999, coupling in 0..3_usize) {
        let coupling = [Coupling::Max, Coupling::Mean, Coupling::Sum][coupling];
        let (net, _vs) = Net::new(&graph);
        match net.plan(&Slimming::ratio(ratio).coupling(coupling)) {
            Ok(plan) => prop_assert_eq!(Some(found(&net, &plan)), expected(&net, ratio, coupling)),
            Err(Error::NothingToPrune { .. } | Error::NoRanking { .. }) => prop_assert_eq!(expected(&net, ratio, coupling), None),
            Err(error) => panic!("{error}"),
        }
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
}
