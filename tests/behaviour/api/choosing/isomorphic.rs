//! Isomorphic layers compete with each other: which layers are, what goes, and budgets that classes
//! and layers share.

use std::collections::BTreeMap;

use slim_runtime::criterion::L2;
use slim_runtime::{Plan, Prunable, Scope, Slimming, Target, model};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use slim_zoo::{mobilenet_v2, resnet, vgg};
use tch::nn::{ModuleT, Path, VarStore};

fn filled<M>(build: impl Fn(&Path) -> M) -> (M, VarStore) {
    let vs = VarStore::new(device());
    let net = build(&vs.root());
    fill(&vs);
    (net, vs)
}

/// The scored layers of each class, in the order of the classes.
fn classes(plan: &Plan) -> Vec<Vec<&str>> {
    let mut classes: Vec<Vec<&str>> = Vec::new();
    for layer in plan.layers() {
        let Some(class) = layer.scored.as_ref().and_then(|scored| scored.class.as_deref()) else {
            continue;
        };
        match classes.iter_mut().find(|layers| layers[0] == class) {
            Some(layers) => layers.push(&layer.path),
            None => {
                assert_eq!(class, layer.path);
                classes.push(vec![&layer.path]);
            }
        }
    }
    classes
}

fn listed(plan: &Plan) -> String {
    classes(plan).iter().map(|layers| layers.join(" ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_classes_of_a_resnet_are_the_places_in_its_blocks_and_its_streams() {
    let (net, _vs) = filled(|p| resnet::resnet50(p, 10));
    let half = Slimming::ratio(0.5).isomorphic();
    insta::assert_snapshot!(listed(&net.plan(&half).unwrap()));
    // By the norms of filters, the classes are those of the convolutions in front.
    insta::assert_snapshot!(listed(&net.plan(&half.criterion(L2)).unwrap()));
}

#[test]
fn the_classes_of_a_mobilenet_are_its_expansions_and_its_streams() {
    let (net, _vs) = filled(|p| mobilenet_v2::MobileNetV2::new(p, 10));
    insta::assert_snapshot!(listed(&net.plan(&Slimming::ratio(0.5).isomorphic()).unwrap()));
}

#[test]
fn the_classes_of_a_vgg_are_what_stands_behind_its_layers() {
    let (net, _vs) = filled(|p| vgg::Vgg::new(p, &vgg::cfg(11).unwrap(), 10).unwrap());
    insta::assert_snapshot!(listed(&net.plan(&Slimming::ratio(0.5).isomorphic()).unwrap()));
}

/// The channels that stay in each scored layer.
fn kept(plan: &Plan) -> BTreeMap<&str, String> {
    let scored = plan.layers().iter().filter_map(|layer| Some((layer, layer.scored.as_ref()?)));
    scored
        .map(|(layer, scored)| {
            (layer.path.as_str(), layer.axis(&scored.axis).unwrap().keep.to_string())
        })
        .collect()
}

#[test]
fn each_class_is_slimmed_as_if_it_were_alone() {
    let (net, _vs) = filled(|p| resnet::resnet18(p, 10));
    for slimming in [Slimming::ratio(0.4), Slimming::ratio(0.4).criterion(L2), Slimming::top_k(90)]
    {
        let plan = net.plan(&slimming.clone().isomorphic()).unwrap();
        let classes = classes(&plan);
        assert!(classes.len() > 3 && classes.iter().any(|layers| layers.len() > 3));
        let all: Vec<_> = classes.concat();
        for class in &classes {
            let others = || all.iter().filter(|path| !class.contains(path));
            let mut alone = others().fold(slimming.clone(), |slimming, path| slimming.keep(*path));
            if let Target::TopK(k) = &mut alone.target {
                // The channels that are kept count among the k.
                *k += others().map(|path| plan.layer(path).unwrap().axes[0].width).sum::<usize>();
            }
            let alone = net.plan(&alone).unwrap();
            for path in class {
                assert_eq!(
                    kept(&plan)[path],
                    kept(&alone)[path],
                    "{path} by {:?}",
                    slimming.target
                );
                let own = plan.layer(path).unwrap().scored.as_ref().unwrap().threshold;
                assert!(own == alone.threshold() && own.is_some());
            }
        }
    }
}

/// What stays of each class by the rule itself, from the scores of single layers.
#[test]
fn a_class_loses_the_channels_at_and_below_the_score_at_its_share() {
    let (net, _vs) = chain();
    let plan = net.plan(&Slimming::ratio(0.3).isomorphic()).unwrap();
    assert_eq!(classes(&plan), [vec!["bn1", "bn2", "bn3"], vec!["bn4"]]);
    let scores: BTreeMap<String, Vec<f64>> = net
        .scores(&Slimming::ratio(0.3))
        .unwrap()
        .into_iter()
        .map(|layer| (layer.path, layer.scores))
        .collect();
    for class in classes(&plan) {
        let mut all: Vec<f64> = class.iter().flat_map(|path| scores[*path].clone()).collect();
        all.sort_by(f64::total_cmp);
        let threshold = all[(all.len() as f64 * 0.3) as usize];
        for path in class {
            let above = scores[path].iter().filter(|score| **score > threshold).count();
            assert_eq!(plan.layer(path).unwrap().axis("channels").unwrap().keep.len(), above);
        }
    }
}

model! {
    /// Three layers of one shape and unlike widths, and a fourth in front of the classifier.
    #[derive(Debug)]
    struct Chain {
        conv1 = conv2d(3 => 12, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(12);
        relu;
        conv2 = conv2d(12 => 20, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(20);
        relu;
        conv3 = conv2d(20 => 9, kernel = 3, padding = 1, stride = 2, bias = false);
        bn3 = batch_norm(9);
        relu;
        conv4 = conv2d(9 => 14, kernel = 3, padding = 1, bias = false);
        bn4 = batch_norm(14);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(14 => 5);
    }
}

fn chain() -> (Chain, VarStore) {
    filled(|p| Chain::new(p))
}

/// The plan by the rule of a ratio for each share at which a class or a layer of one of these
/// widths loses one more channel.
fn by_share(net: &Chain, scope: Scope, widths: &[usize]) -> Vec<Plan> {
    let mut shares: Vec<f64> = widths
        .iter()
        .flat_map(|&width| (0..width).map(move |at| at as f64 / width as f64))
        .collect();
    shares.push(1.);
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    // Between two shares, so that rounding does not matter.
    let between = shares.windows(2).map(|pair| pair[0].midpoint(pair[1]));
    let plans = between.map(|share| {
        let ratio = Slimming::ratio(share);
        let scoped = if scope == Scope::Local { ratio.local() } else { ratio.isomorphic() };
        net.plan(&scoped).unwrap()
    });
    [net.plan(&Slimming::ratio(0.)).unwrap()].into_iter().chain(plans).collect()
}

#[test]
fn a_budget_is_met_by_the_smallest_common_share_and_by_no_smaller() {
    let (net, _vs) = chain();
    let cost = net.cost(|net| net.forward_t(&images(&[1, 3, 8, 8]), false)).unwrap();
    let whole = cost.macs().unwrap();
    for (scope, widths) in [(Scope::Local, vec![12, 20, 9, 14]), (Scope::Isomorphic, vec![41, 14])]
    {
        let plans = by_share(&net, scope, &widths);
        for share in (1..=20).map(|twentieth| f64::from(twentieth) / 20.) {
            let in_scope = |slimming: Slimming| {
                let local = scope == Scope::Local;
                net.plan(&if local { slimming.local() } else { slimming.isomorphic() })
            };
            let parameters = |plan: &Plan| plan.parameters();
            let fits = |plan: &&Plan| {
                let change = parameters(plan);
                change.after <= (change.before as f64 * share) as i64
            };
            match (plans.iter().find(fits), in_scope(Slimming::params(share))) {
                (Some(expected), Ok(found)) => assert_eq!(kept(&found), kept(expected), "{share}"),
                (None, Err(error)) => assert!(error.to_string().contains("out of reach")),
                (expected, found) => panic!("{share}: {expected:?} and {found:?}"),
            }
            let fits = |plan: &&Plan| {
                cost.after(plan).unwrap().macs().unwrap() <= (whole as f64 * share) as i64
            };
            match (plans.iter().find(fits), in_scope(Slimming::macs(share, &cost).unwrap())) {
                (Some(expected), Ok(found)) => assert_eq!(kept(&found), kept(expected), "{share}"),
                (None, Err(error)) => assert!(error.to_string().contains("out of reach")),
                (expected, found) => panic!("{share}: {expected:?} and {found:?}"),
            }
        }
    }
}

#[test]
fn a_common_budget_holds_with_bounds_and_beside_targets_of_single_layers() {
    let (net, _vs) = filled(|p| resnet::resnet18(p, 10));
    let half = |slimming: Slimming| {
        let plan = net.plan(&slimming).unwrap();
        let parameters = plan.parameters();
        assert!(parameters.after as f64 <= 0.5 * parameters.before as f64, "{parameters}");
        assert!(parameters.after as f64 >= 0.45 * parameters.before as f64, "{parameters}");
        plan
    };
    let base = || Slimming::params(0.5);
    for scoped in [base().local(), base().isomorphic()] {
        let plan = half(scoped.clone().round_to(8).max_removed(0.6));
        assert!(plan.cfg().widths().all(|width| width % 8 == 0), "{}", plan.cfg());
        // The layers with a target of their own go first, and the others pay for the rest.
        let plan = half(scoped.clone().layers("layer4.*.bn1", Target::Ratio(0.)));
        assert_eq!(plan.layer("layer4.0.bn1").unwrap().axes[0].keep.len(), 512);
        half(scoped.keep("bn1"));
    }
}

#[test]
fn the_report_and_explanations_name_the_class() {
    let (net, _vs) = chain();
    let slimming = Slimming::params(0.4).isomorphic();
    let plan = net.plan(&slimming).unwrap();
    insta::assert_snapshot!(plan);
    insta::assert_snapshot!(net.plan(&Slimming::ratio(0.3).isomorphic()).unwrap());
    insta::assert_snapshot!(net.explain(&slimming, "conv3").unwrap());
    // The threshold of each channel is that of its class.
    for path in ["bn1", "bn2", "bn3", "bn4"] {
        let explained = net.explain(&slimming, path).unwrap();
        let scored = plan.layer(path).unwrap().scored.as_ref().unwrap();
        assert_eq!(explained.classes, [scored.class.clone().unwrap()]);
        assert!(explained.channels.iter().all(|channel| channel.threshold == scored.threshold));
    }

    // A file keeps the classes. Versions of the crate that do not know them refuse it.
    let json = plan.to_json().unwrap();
    assert!(json.contains("\"format\": 5"), "{json}");
    assert_eq!(Plan::from_json(&json).unwrap(), plan);
    let local = net.plan(&Slimming::params(0.4).local()).unwrap().to_json().unwrap();
    assert!(local.contains("\"format\": 5"), "{local}");
    let ratio = net.plan(&Slimming::ratio(0.4).local()).unwrap().to_json().unwrap();
    assert!(ratio.contains("\"format\": 2"), "{ratio}");
}
