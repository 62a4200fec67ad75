//! Equal to PyTorch's results bit for bit. `tests/fixtures/vgg.py` is the oracle.

use slim_runtime::{Cfg, Prunable, Slimming};
use slim_tests::check::{assert_close, rounding};
use slim_tests::device;
use slim_tests::fixture::Fixture;
use slim_zoo::vgg::{self, Vgg};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

use crate::common::{assert_same, values};

/// Names of the fixtures.
fn cases() -> Vec<String> {
    let folder = slim_tests::place::path("fixtures/vgg");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    assert!(names.len() >= 6);
    names
}

fn read(name: &str) -> Fixture {
    Fixture::read(&format!("vgg/{name}"))
}

fn dense(case: &Fixture) -> (Vgg, VarStore) {
    let vs = VarStore::new(device());
    let model = Vgg::new(vs.root(), &case.get::<Cfg>("dense_cfg"), case.get("classes")).unwrap();
    let state = case.state("dense.");
    let variables = vs.variables();
    assert_eq!(variables.len(), state.len(), "the names are the reference's");
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in variables {
        assert_eq!(variable.size(), state[&name].size());
        variable.copy_(&state[&name]);
    }
    (model, vs)
}

#[test]
fn cfg_threshold_and_every_tensor_are_pytorchs() {
    for name in cases() {
        let case = read(&name);
        let (mut model, vs) = dense(&case);
        let slimmed = model.slim(case.get("percent")).unwrap();

        assert_eq!(slimmed.cfg().to_string(), case.metadata["cfg"], "{name}");
        assert_eq!(slimmed.plan().threshold(), Some(case.get("threshold")));
        assert_eq!(slimmed.plan().parameters().after, case.get::<i64>("parameters"));
        assert_same(&values(&vs), &case.state("slim."));

        let output = model.forward_t(case.tensor("input"), false);
        assert_close(&output, case.tensor("slim_output"), rounding(&vs));
    }
}

#[test]
fn the_masked_network_is_pytorchs() {
    for name in cases() {
        let case = read(&name);
        let (mut model, vs) = dense(&case);
        let plan = model.plan(&Slimming::ratio(case.get("percent"))).unwrap();
        model.mask(&plan).unwrap();
        let output = model.forward_t(case.tensor("input"), false);
        assert_close(&output, case.tensor("masked_output"), rounding(&vs));
    }
}

#[test]
fn the_fixtures_hold_a_floor_and_ties() {
    let reached = |name: &str| {
        let case = read(name);
        dense(&case).0.plan(&Slimming::ratio(case.get("percent"))).unwrap()
    };
    assert!(reached("vgg16_one_layer_empty").bounded().any(|(path, _)| path == "feature.3.bn"));
    let ties = reached("vgg11_ties");
    assert!(
        ties.channels().after
            < ties.removable() as i64 - (ties.removable() as f64 * 0.5) as i64 - 1
    );
}

#[test]
fn full_size_networks_have_the_papers_figures() {
    for (classes, parameters) in [(10, 20_035_018), (100, 20_081_188)] {
        let vs = VarStore::new(device());
        let model = Vgg::new(vs.root(), &vgg::cfg(19).unwrap(), classes).unwrap();
        spread_scores(&vs);
        let plan = model.plan(&Slimming::ratio(0.5)).unwrap();
        assert_eq!(plan.parameters().before, parameters);
        assert_eq!(plan.channels().before, 5504);
        assert_eq!(plan.channels().after, 2751);
        assert_eq!(plan.bounded().count(), 0);
    }
}

/// Sets 5,504 distinct scores, spread evenly over all layers: 2657 and 5504 have no common factor.
fn spread_scores(vs: &VarStore) {
    let _no_grad = tch::no_grad_guard();
    let mut next = 0;
    for (name, mut variable) in vs.variables() {
        if variable.dim() == 1 && name.ends_with("weight") {
            let scores: Vec<f32> = (0..variable.size()[0])
                .map(|i| ((next + i) * 2657 % 5504) as f32 / 5504.)
                .collect();
            next += scores.len() as i64;
            variable.copy_(&Tensor::from_slice(&scores));
        }
    }
    assert_eq!(next, 5504);
}
