//! Why each channel stays or goes, and warnings about a plan.

use slim_runtime::criterion::Normalisation;
use slim_runtime::{Prunable, Slimming, Target, Warning};
use slim_tests::device;
use slim_tests::fill::fill;
use slim_zoo::resnet;
use tch::nn::VarStore;

use super::plan;
use crate::common::{Net, set};

#[test]
fn every_reason_is_said() {
    let vs = VarStore::new(device());
    let net = Net::with_known_scores(&vs.root());
    let slimming = Slimming::ratio(0.7).at_least(2);
    insta::assert_snapshot!(net.explain(&slimming, "bn1").unwrap());
    insta::assert_snapshot!(net.explain(&slimming, "conv2").unwrap());
    insta::assert_snapshot!(net.explain(&slimming.keep("bn2"), "bn2").unwrap());
    insta::assert_snapshot!(net.explain(&Slimming::ratio(0.), "fc").unwrap());
}

#[test]
fn coupled_channels_are_named() {
    let vs = VarStore::new(device());
    let net = resnet::resnet18(vs.root(), 10);
    fill(&vs);
    let explained = net.explain(&Slimming::ratio(0.5), "layer1.0.bn2").unwrap();
    let first = &explained.channels[0];
    assert_eq!(
        first.together,
        ["conv1[0]", "bn1[0]", "layer1.0.conv2[0]", "layer1.1.conv2[0]", "layer1.1.bn2[0]"]
    );
    // Coupled layers have the same scores, and keep the same channels.
    let stem = net.explain(&Slimming::ratio(0.5), "bn1").unwrap();
    assert!(
        stem.channels
            .iter()
            .zip(&explained.channels)
            .all(|(a, b)| (a.score, a.stays) == (b.score, b.stays))
    );
}

#[test]
fn each_channel_is_compared_with_its_own_threshold() {
    let vs = VarStore::new(device());
    let net = Net::with_known_scores(&vs.root());
    // `bn1` ranks the channels of `conv1`; `bn2` has its own target.
    let slimming = Slimming::ratio(0.5).layers("bn2", Target::Ratio(0.9));
    for (path, threshold) in [("conv1", 0.05_f32), ("bn1", 0.05), ("conv2", 0.14), ("bn2", 0.14)] {
        let explained = net.explain(&slimming, path).unwrap();
        assert!(
            explained
                .channels
                .iter()
                .all(|channel| channel.threshold == Some(f64::from(threshold))),
            "{explained}"
        );
    }
    let untouched =
        net.explain(&Slimming::ratio(0.5).layers("bn2", Target::Ratio(0.)), "bn2").unwrap();
    assert!(
        untouched.channels.iter().all(|channel| channel.threshold.is_none())
            && untouched.to_string().contains("nothing was to be removed")
    );
}

/// For every layer, the explanation agrees with the plan.
#[test]
fn explanations_agree_with_the_plan() {
    let vs = VarStore::new(device());
    let net = resnet::resnet18(vs.root(), 10);
    fill(&vs);
    let slimming = Slimming::ratio(0.6).at_least(24).round_to(8).keep("layer2.0.bn1");
    let plan = net.plan(&slimming).unwrap();
    for layer in plan.layers().iter().filter(|layer| !layer.axes.is_empty()) {
        let explained = net.explain(&slimming, &layer.path).unwrap();
        let staying: Vec<_> = explained
            .channels
            .iter()
            .filter(|channel| channel.stays)
            .map(|channel| channel.position)
            .collect();
        assert_eq!(
            staying,
            layer.axis(&explained.axis).unwrap().keep.iter().collect::<Vec<_>>(),
            "{}",
            layer.path
        );
    }
}

fn warnings(gamma: [&[f64]; 2], slimming: &Slimming) -> Vec<Warning> {
    let vs = VarStore::new(device());
    let net = Net::new(&vs.root());
    set(&net.bn1, gamma[0]);
    set(&net.bn2, gamma[1]);
    net.plan(slimming).unwrap().warnings().to_vec()
}

#[test]
fn a_gap_is_no_reason_to_warn_and_its_absence_is() {
    let trained: [&[f64]; 2] =
        [&[1e-6, 0.4, 2e-6, 0.5, 3e-6, 0.6, 1e-7, 0.7], &[0.4, 0.3, 1e-6, 2e-6, 0.2, 1e-5]];
    assert_eq!(warnings(trained, &Slimming::ratio(0.45)), []);
    let [Warning::NoGap { largest, median }] = warnings(trained, &Slimming::ratio(0.7))[..] else {
        panic!("no warning")
    };
    assert!(largest > 0.3 && median >= 0.5, "{largest} {median}");
    // A fixed threshold in the gap, or below all scores.
    assert_eq!(warnings(trained, &Slimming::threshold(0.15)), []);
    assert_eq!(warnings(trained, &Slimming::threshold(1e-8)), []);
    // Normalised scores are not |γ|.
    assert_eq!(warnings(trained, &Slimming::ratio(0.7).normalisation(Normalisation::L2)), []);
    insta::assert_snapshot!(plan(&Slimming::ratio(0.5)));
}

#[test]
fn weight_decay_shows() {
    let decayed: [&[f64]; 2] = [
        &[0.01, 0.02, 0.015, 0.012, 0.02, 0.03, 0.01, 0.02],
        &[0.01, 0.02, 0.03, 0.01, 0.02, 0.04],
    ];
    let found = warnings(decayed, &Slimming::ratio(0.5));
    assert!(
        found.iter().any(|warning| matches!(warning, Warning::WeightDecay { .. })),
        "{found:?}"
    );
    // Once one γ has reached zero, the L1 penalty works.
    let sparse: [&[f64]; 2] = [&[0.01, 0.02, 1e-7, 0.012, 0.02, 0.03, 0.01, 0.02], decayed[1]];
    assert!(
        !warnings(sparse, &Slimming::ratio(0.5))
            .iter()
            .any(|warning| matches!(warning, Warning::WeightDecay { .. }))
    );
}
