//! Targets for single layers, chosen by name.

use slim_runtime::{KeepReason, Plan, Prunable, Slimming, Target};
use slim_tests::device;
use slim_tests::fill::fill;
use slim_zoo::resnet;
use tch::nn::VarStore;

use super::{plan, widths};

#[test]
fn a_layer_with_a_target_of_its_own() {
    // bn2: y[⌊6 · 0.5⌋] = 0.12, and two are above; bn1 competes without bn2: y[⌊8 · 0.25⌋] = 0.03.
    let plan = plan(&Slimming::ratio(0.25).layers("bn2", Target::Ratio(0.5)));
    assert_eq!(widths(&plan), [5, 2]);
    assert_eq!(plan.threshold(), Some(f64::from(0.03_f32)));
    assert_eq!(
        plan.layer("bn2").unwrap().scored.as_ref().unwrap().threshold,
        Some(f64::from(0.12_f32))
    );
}

#[test]
fn the_convolution_means_the_norm_behind_it() {
    let by_conv = plan(&Slimming::ratio(0.25).layers("conv2", Target::Ratio(0.5)));
    assert_eq!(widths(&by_conv), [5, 2]);
}

#[test]
fn of_several_patterns_the_last_counts() {
    let slimming = Slimming::ratio(0.).layers("*", Target::TopK(2)).layers("bn2", Target::TopK(3));
    assert_eq!(widths(&plan(&slimming)), [2, 3]);
    let slimming = Slimming::ratio(0.).layers("bn2", Target::TopK(3)).layers("*", Target::TopK(2));
    assert_eq!(widths(&plan(&slimming)), [2, 2]);
}

#[test]
fn a_layer_that_is_kept() {
    let plan = plan(&Slimming::ratio(0.5).keep("bn1"));
    // Of the 6 channels of `bn2`, the threshold is y[3] = 0.12.
    assert_eq!(widths(&plan), [8, 2]);
    let held = plan.layer("bn1").unwrap().scored.as_ref().unwrap().held.clone();
    assert_eq!(held, Some(KeepReason::Keep { by: "keep(\"bn1\")".to_owned() }));
    assert!(plan.to_string().contains("`bn1`: 8 of 8 channels stay: `keep(\"bn1\")`"), "{plan}");
}

fn resnet18(slimming: &Slimming) -> Plan {
    let vs = VarStore::new(device());
    let net = resnet::resnet18(vs.root(), 10);
    fill(&vs);
    net.plan(slimming).unwrap()
}

fn removed(plan: &Plan, path: &str) -> f64 {
    let axis = plan.layer(path).unwrap().axis("channels").unwrap();
    1. - axis.keep.len() as f64 / axis.width as f64
}

#[test]
fn a_block_is_all_of_its_layers() {
    let plan =
        resnet18(&Slimming::ratio(0.3).keep("layer1").layers("layer4.*.bn1", Target::Ratio(0.75)));
    for bn in ["layer1.0.bn1", "layer1.1.bn1", "layer1.1.bn2", "bn1"] {
        // The stem's norm writes the stream of the first block.
        assert_eq!(removed(&plan, bn), 0., "{bn}");
    }
    for bn in ["layer4.0.bn1", "layer4.1.bn1"] {
        assert!((0.75..0.76).contains(&removed(&plan, bn)), "{bn}: {}", removed(&plan, bn));
    }
    assert!(removed(&plan, "layer2.0.bn1") > 0.);
}

#[test]
fn local_takes_a_residual_stream_as_one() {
    let plan = resnet18(&Slimming::ratio(0.5).local());
    for layer in plan.layers().iter().filter(|layer| layer.scored.is_some()) {
        let share = removed(&plan, &layer.path);
        assert!((0.5..0.55).contains(&share), "{}: {share}", layer.path);
    }
}
