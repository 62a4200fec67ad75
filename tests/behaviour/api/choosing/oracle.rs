//! Criteria, penalties and the distillation loss are what PyTorch computes by their definitions, on
//! random networks with coupled channels. `tests/fixtures/choosing.py` is the oracle; its channel
//! groups are Torch-Pruning's.

mod network;

use std::collections::{BTreeMap, BTreeSet};

use slim_runtime::criterion::{
    Activations, Candidate, Criterion, Fisher, Fpgm, GateTaylor, GroupTaylor, L1, L2, Lamp,
    MeanActivation, ScaledNorm, Taylor,
};
use slim_runtime::{
    Coupling, Penalty, Plan, Prunable, Regulariser, Result, Slimming, distillation_loss,
};
use slim_tests::tensor;
use tch::nn::ModuleT;
use tch::{Kind, Tensor};

use super::coupled::{doubles, scores};
use network::Case;

/// Numbers that differ by rounding alone. A sum in which large terms cancel is as exact as they
/// are, so the smallest values are compared with a share of the largest.
#[track_caller]
fn assert_same(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!((found.size(), found.kind()), (expected.size(), Kind::Double), "{what}");
    let largest = expected.abs().max().double_value(&[]);
    let difference = found - expected;
    assert!(
        found.allclose(expected, 1e-10, 1e-13 * largest, false),
        "{what}: {found}\nand not {expected}, {difference}"
    );
}

#[test]
fn logits_and_gradients_are_pytorchs() {
    for case in Case::all() {
        assert_same("logits", &case.logits(), case.tensor("logits"));
        case.backward();
        for (name, variable) in case.vs.variables() {
            if variable.requires_grad() {
                let expected = case.tensor(&format!("loss.{name}"));
                assert_same(&name, &variable.grad(), expected);
            }
        }
    }
}

#[test]
fn the_fixture_has_every_kind_of_block_and_groups_of_several_layers() {
    let (mut kinds, mut most, mut unscaled) = (BTreeMap::<String, usize>::new(), 0, 0);
    let cases = Case::all();
    for case in &cases {
        for kind in case.about["blocks"].as_array().unwrap() {
            *kinds.entry(kind.as_str().unwrap().to_owned()).or_default() += 1;
        }
        let mut makers = BTreeMap::<usize, usize>::new();
        for (layer, groups) in case.groups() {
            if layer.ends_with("conv") {
                groups.into_iter().for_each(|group| *makers.entry(group).or_default() += 1);
            }
        }
        most = most.max(makers.into_values().max().unwrap());
        // Nothing is compared with zeros alone; a proximal step of L1 makes some.
        for (name, tensor) in &case.expected {
            let sum = tensor.abs().nansum(None::<&[i64]>, false, Kind::Double);
            assert!(sum.double_value(&[]) > 0. || name.starts_with("l1.shrunk."), "{name}");
        }
        let shrunk: Vec<f64> = case.below("l1.shrunk.").into_values().flat_map(doubles).collect();
        assert!(shrunk.contains(&0.) && shrunk.iter().any(|scale| *scale != 0.));
        let by_scale = doubles(case.tensor("combined.batch_norm_scale.max"));
        unscaled += by_scale.iter().filter(|score| score.is_nan()).count();
    }
    let all = ["bare", "dense", "depthwise", "plain", "preactivated", "projected", "residual"];
    assert!(kinds.keys().eq(all) && kinds.values().all(|&count| count >= 2), "{kinds:?}");
    assert!(cases.len() == 8 && most >= 4 && unscaled > 0, "{most}, {unscaled}");
}

/// What [`Regulariser::add_gradient`] adds to the gradients of the loss, and the proximal step.
fn check_penalty(case: &Case, name: &str, regulariser: &Regulariser) {
    let (found, expected) = (regulariser.value().unwrap(), case.number(&format!("{name}.value")));
    assert!((found - expected).abs() <= 1e-12 * expected, "{name}: {found} and not {expected}");

    case.backward();
    regulariser.add_gradient(0.3).unwrap();
    let own = case.below(&format!("{name}.gradient."));
    let trained = || case.vs.variables().into_iter().filter(|(_, it)| it.requires_grad());
    for (path, variable) in trained() {
        let loss = case.tensor(&format!("loss.{path}"));
        let expected = own.get(&path).map_or_else(|| loss.shallow_clone(), |own| loss + *own * 0.3);
        assert_same(&format!("{name} {path}"), &variable.grad(), &expected);
    }

    if name == "group_lasso" {
        return;
    }
    let before: BTreeMap<_, _> =
        trained().map(|(path, variable)| (path, variable.detach().copy())).collect();
    regulariser.shrink(case.about["t"].as_f64().unwrap()).unwrap();
    let shrunk = case.below(&format!("{name}.shrunk."));
    for (path, variable) in trained() {
        let expected = shrunk.get(&path).copied().unwrap_or(&before[&path]);
        assert_same(&format!("{name} {path}"), &variable.detach(), expected);
    }
    // The next penalty starts from the fixture's state.
    tch::no_grad(|| trained().for_each(|(path, mut variable)| variable.copy_(&before[&path])));
}

/// Scores 0 for the channels of these groups, and 1 for all others.
#[derive(Debug, Clone)]
struct Named {
    groups: BTreeMap<String, Vec<usize>>,
    removed: BTreeSet<usize>,
}

impl Named {
    fn of(case: &Case) -> Self {
        let removed = serde_json::from_value(case.about["removed"].clone()).unwrap();
        Self { groups: case.groups(), removed }
    }

    /// The channels of a layer that stay.
    fn kept(&self, layer: &str) -> Vec<usize> {
        let groups = self.groups[layer].iter().enumerate();
        groups.filter(|(_, group)| !self.removed.contains(group)).map(|(at, _)| at).collect()
    }
}

impl Criterion for Named {
    fn name(&self) -> String {
        "named".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        if layer.scale().is_some() {
            return Ok(None);
        }
        let score = |group| f64::from(u8::from(!self.removed.contains(group)));
        let scores: Vec<f64> = self.groups[layer.path()].iter().map(score).collect();
        Ok(Some(tensor(&scores)))
    }
}

/// A plan that removes the groups that the fixture names, and no others.
fn plan(case: &Case) -> Plan {
    let named = Named::of(case);
    let plan = case.net.plan(&Slimming::threshold(0.5).criterion(named.clone())).unwrap();
    for layer in named.groups.keys() {
        let of_layer = plan.layer(layer).unwrap();
        let axis = of_layer.axis("out").or_else(|| of_layer.axis("channels")).unwrap();
        assert!(axis.keep.iter().eq(named.kept(layer)), "{layer}");
    }
    plan
}

#[test]
fn penalties_are_autograds() {
    for case in Case::all() {
        for (name, penalty) in
            [("l1", Penalty::L1), ("l2", Penalty::L2), ("group_lasso", Penalty::GroupLasso)]
        {
            check_penalty(&case, name, &case.net.regulariser(penalty).unwrap());
        }
        check_penalty(&case, "growing", &plan(&case).regulariser(&case.net).unwrap());
    }
}

/// The slimming by each criterion, by the criterion's name.
fn slimmings(case: &Case) -> BTreeMap<String, Slimming> {
    let batch = case.tensor("batch").to_kind(Kind::Double);
    // Batches of unlike sizes, which a mean of means would weight alike.
    let batches = [batch.narrow(0, 0, 2), batch.narrow(0, 2, 1)];
    let forward = |net: &network::Net, xs: &Tensor| net.forward_t(xs, false);
    let activations = Activations::record(&case.net, batches, forward).unwrap();
    let start = || Slimming::ratio(0.5);
    let all = [
        start(),
        start().criterion(L1),
        start().criterion(L2),
        start().criterion(Fpgm),
        start().criterion(Lamp),
        start().criterion(Fisher),
        start().criterion(Taylor),
        start().criterion(GroupTaylor),
        start().criterion(GateTaylor),
        start().criterion(ScaledNorm),
        start().criterion(MeanActivation::new(activations)),
    ];
    all.into_iter().map(|slimming| (slimming.criterion.name(), slimming)).collect()
}

#[test]
fn scores_of_layers_follow_the_definitions() {
    for case in Case::all() {
        case.backward();
        for (criterion, slimming) in slimmings(&case) {
            let expected = case.below(&format!("scores.{criterion}."));
            let found = scores(&case.net, &slimming);
            let found: BTreeMap<_, _> = found.into_iter().collect();
            assert!(found.keys().eq(expected.keys()), "{criterion}: {:?}", found.keys());
            for (layer, found) in found {
                assert_same(&format!("{criterion} {layer}"), &tensor(&found), expected[&layer]);
            }
        }
    }
}

#[test]
fn scores_of_groups_combine_those_of_their_layers() {
    let couplings = [("max", Coupling::Max), ("mean", Coupling::Mean), ("sum", Coupling::Sum)];
    for case in Case::all() {
        case.backward();
        for (criterion, slimming) in slimmings(&case) {
            for (name, coupling) in couplings {
                let of_groups = doubles(case.tensor(&format!("combined.{criterion}.{name}")));
                let slimming = slimming.clone().coupling(coupling);
                for (layer, groups) in case.groups() {
                    let explained = case.net.explain(&slimming, &layer).unwrap();
                    // A channel that no layer scores has NaN in the fixture.
                    let found = explained.channels.iter().map(|it| it.score.unwrap_or(f64::NAN));
                    let expected: Vec<f64> = groups.iter().map(|&group| of_groups[group]).collect();
                    let (found, expected) = (tensor(&found.collect::<Vec<_>>()), tensor(&expected));
                    let is_nan = expected.isnan();
                    let what = format!("{criterion} {name} {layer}");
                    assert!(found.isnan().equal(&is_nan), "{what}");
                    let [found, expected] = [found, expected].map(|it| it.masked_fill(&is_nan, 0.));
                    assert_same(&what, &found, &expected);
                }
            }
        }
    }
}

#[test]
fn the_distillation_loss_is_hintons() {
    for case in Case::all() {
        let student = case.tensor("logits").detach().copy().set_requires_grad(true);
        let temperature = case.about["temperature"].as_f64().unwrap();
        let loss = distillation_loss(&student, case.tensor("teacher"), temperature).unwrap();
        assert_same("loss", &loss.detach(), case.tensor("distillation.value"));
        loss.backward();
        assert_same("gradient", &student.grad(), case.tensor("distillation.gradient"));
    }
}
