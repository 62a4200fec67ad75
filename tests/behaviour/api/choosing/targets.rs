//! Targets: how many channels go.

use slim_runtime::criterion::L2;
use slim_runtime::error::CheckError;
use slim_runtime::{Error, Prunable, Slimming, Target};
use slim_tests::device;
use slim_tests::fill::fill;
use slim_zoo::vgg::{self, Vgg};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use super::{plan, widths};

#[test]
fn a_threshold_is_absolute_and_strict() {
    // γ is an `f32`, and a threshold an `f64`.
    assert_eq!(widths(&plan(&Slimming::threshold(f64::from(0.05_f32)))), [3, 6]);
    assert_eq!(widths(&plan(&Slimming::threshold(0.0499))), [4, 6]);
    assert_eq!(widths(&plan(&Slimming::threshold(-1.))), [8, 6]);
    // All channels of `bn1` are below the threshold, and one stays.
    let plan = plan(&Slimming::threshold(f64::from(0.1_f32)));
    assert_eq!(widths(&plan), [1, 4]);
    assert_eq!(
        plan.bounded().map(|(path, bounded)| (path, bounded.wanted)).collect::<Vec<_>>(),
        [("bn1", 0)]
    );
}

#[test]
fn top_k_is_exact_where_nothing_is_coupled() {
    for k in [2, 3, 7, 13, 14, 100] {
        let plan = plan(&Slimming::top_k(k));
        assert_eq!(plan.channels().after as usize, k.min(14), "{k}");
    }
    assert_eq!(widths(&plan(&Slimming::top_k(9))), [3, 6]);
}

/// A sum of the outputs of two batch norms.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = fc)]
struct Summed {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[prune(from = bn2 + bn1)]
    fc: nn::Linear,
}

#[test]
fn top_k_of_coupled_layers_is_of_each() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let net = Summed {
        conv1: nn::conv2d(p / "conv1", 3, 8, 1, Default::default()),
        bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
        conv2: nn::conv2d(p / "conv2", 8, 8, 1, Default::default()),
        bn2: nn::batch_norm2d(p / "bn2", 8, Default::default()),
        fc: nn::linear(p / "fc", 8, 2, Default::default()),
    };
    fill(&vs);
    for slimming in [Slimming::top_k(4).local(), Slimming::ratio(0.).layers("bn2", Target::TopK(4))]
    {
        assert_eq!(widths(&net.plan(&slimming).unwrap()), [4, 4]);
    }
    assert_eq!(widths(&net.plan(&Slimming::top_k(1).local()).unwrap()), [1, 1]);
    // Over the whole network, the channels of both norms count.
    assert_eq!(widths(&net.plan(&Slimming::top_k(9)).unwrap()), [4, 4]);
}

#[test]
fn outputs_are_no_choice() {
    let vs = VarStore::new(device());
    let net = crate::common::Net::new(&vs.root());
    let plan = net.plan(&Slimming::top_k(7).criterion(L2)).unwrap();
    assert_eq!((plan.channels().before, plan.channels().after), (14, 7));
    assert!(
        net.plan(&Slimming::top_k(usize::MAX))
            .unwrap()
            .to_string()
            .contains("9,223,372,036,854,775,807 channels asked for, 14 stay")
    );
}

#[test]
fn a_layer_whose_scores_are_level_is_named() {
    let vs = VarStore::new(device());
    let net = crate::common::Net::with_known_scores(&vs.root());
    crate::common::set(&net.bn1, &[0.5; 8]);
    insta::assert_snapshot!(net.plan(&Slimming::ratio(0.3).local()).unwrap_err(), @"every |γ| of `bn1` that could go is 0.5, so nothing tells the channels apart and the rule would remove all of them; train first, with `add_l1_subgradient` between `backward` and `step`");
    // If all scores are zero, the channels can go.
    crate::common::set(&net.bn1, &[0.; 8]);
    assert_eq!(widths(&net.plan(&Slimming::ratio(0.3).local()).unwrap()), [1, 4]);
}

#[test]
fn of_equal_scores_the_first_stay() {
    let vs = VarStore::new(device());
    let net = crate::common::Net::new(&vs.root());
    crate::common::set(&net.bn1, &[0.5, 0.5, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5]);
    crate::common::set(&net.bn2, &[0.5; 6]);
    let plan = net.plan(&Slimming::top_k(10)).unwrap();
    assert_eq!(plan.layer("bn1").unwrap().axis("channels").unwrap().keep.to_string(), "0-1,3-7");
    assert_eq!(plan.layer("bn2").unwrap().axis("channels").unwrap().keep.to_string(), "0-2");
    // The paper's rule removes all of them, and the floor keeps the first.
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(plan.layer("bn1").unwrap().axis("channels").unwrap().keep.to_string(), "0");
}

#[test]
fn local_is_layer_by_layer() {
    // For each layer, y[⌊8 · 0.5⌋] and y[⌊6 · 0.5⌋]; the channels above stay.
    let halved = plan(&Slimming::ratio(0.5).local());
    assert_eq!(widths(&halved), [3, 2]);
    assert_eq!(halved.threshold(), None);
    let thresholds: Vec<_> = ["bn1", "bn2"]
        .map(|path| halved.layer(path).unwrap().scored.as_ref().unwrap().threshold)
        .into();
    assert_eq!(thresholds, [Some(f64::from(0.05_f32)), Some(f64::from(0.12_f32))]);
    assert_eq!(widths(&plan(&Slimming::top_k(5).local())), [5, 5]);
}

/// VGG-19 with distinct scores.
fn vgg19() -> (Vgg, VarStore) {
    let vs = VarStore::new(device());
    let net = Vgg::new(vs.root(), &vgg::cfg(19).unwrap(), 10).unwrap();
    fill(&vs);
    (net, vs)
}

#[test]
fn a_budget_of_parameters_is_the_largest_network_within_it() {
    let (mut net, vs) = vgg19();
    let plan = net.plan(&Slimming::params(0.4)).unwrap();
    let parameters = plan.parameters();
    assert_eq!(parameters.before, 20_035_018);
    assert!(parameters.after <= 8_014_007, "{}", parameters.after);
    let larger = net.plan(&Slimming::top_k(plan.channels().after as usize + 1)).unwrap();
    assert!(larger.parameters().after > 8_014_007, "{}", larger.parameters().after);

    net.apply(&plan).unwrap();
    let stored: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(stored as i64, parameters.after);
}

#[test]
fn a_budget_of_macs_is_what_the_slimmed_network_takes() {
    let images = Tensor::zeros([1, 3, 32, 32], (Kind::Float, device()));
    let (mut net, _vs) = vgg19();
    let cost = net.cost(|net| net.forward_t(&images, false)).unwrap();
    let plan = net.plan(&Slimming::macs(0.5, &cost).unwrap()).unwrap();
    let after = cost.after(&plan).unwrap().macs().unwrap();
    assert!(after <= 398_136_320 / 2, "{after}");
    let larger = net.plan(&Slimming::top_k(plan.channels().after as usize + 1)).unwrap();
    assert!(cost.after(&larger).unwrap().macs().unwrap() > 398_136_320 / 2);
    let report = plan.to_string();
    assert!(
        report.contains(&format!(
            "budget      50.0 % of the MACs asked for, {:.1} % stay",
            100. * after as f64 / 398_136_320.
        )),
        "{report}"
    );

    net.apply(&plan).unwrap();
    assert_eq!(net.cost(|net| net.forward_t(&images, false)).unwrap().macs().unwrap(), after);

    // A cost of another network, or of one that cannot be counted.
    let vs = VarStore::new(device());
    let other = crate::common::Net::new(&vs.root());
    insta::assert_snapshot!(other.plan(plan.slimming()).unwrap_err(), @"the cost is another network's, which has no tensor `conv1.weight`; record it of this one, with `cost`");
    let cost = other.cost(|net| net.forward_t(&images, false)).unwrap();
    assert!(matches!(Slimming::macs(0.5, &cost), Err(Error::Check(CheckError::Uncounted { .. }))));
}

#[test]
fn a_budget_holds_when_widths_are_rounded() {
    let (net, _vs) = vgg19();
    let exact = net.plan(&Slimming::params(0.4)).unwrap().parameters().after;
    for slimming in [Slimming::params(0.4).round_to(32), Slimming::params(0.4).round_down_to(32)] {
        let plan = net.plan(&slimming).unwrap();
        assert!(plan.parameters().after <= 8_014_007);
        // The budget is used: one multiple of a layer is a few per cent.
        assert!(plan.parameters().after > exact * 95 / 100, "{}", plan.parameters().after);
        assert!(plan.cfg().widths().all(|width| width % 32 == 0), "{}", plan.cfg());
    }
}
