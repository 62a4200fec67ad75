//! Bit for bit what PyTorch makes of the same networks. `tests/fixtures/vgg.py` is the oracle.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use slim_examples::zoo::vgg::{self, Vgg};
use slim_runtime::{Cfg, Prunable, Slimming};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{assert_same, values};

struct Case {
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    fn read(file: &Path) -> Self {
        let buffer = std::fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&buffer).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&buffer).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32);
            let size: Vec<_> = view.shape().iter().map(|&size| size as i64).collect();
            (name, Tensor::from_data_size(view.data(), &size, Kind::Float))
        };
        Case { metadata: metadata.metadata().clone().unwrap(), tensors: tensors.tensors().into_iter().map(tensor).collect() }
    }

    fn get<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> T {
        self.metadata[key].parse().unwrap()
    }

    /// The tensors below `prefix`.
    fn state(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()));
        self.tensors.iter().filter_map(named).collect()
    }

    fn dense(&self) -> (Vgg, VarStore) {
        let vs = VarStore::new(Device::Cpu);
        let model = Vgg::new(vs.root(), &self.get::<Cfg>("dense_cfg"), self.get("classes")).unwrap();
        let state = self.state("dense.");
        let variables = vs.variables();
        assert_eq!(variables.len(), state.len(), "the names are the reference's");
        let _no_grad = tch::no_grad_guard();
        for (name, mut variable) in variables {
            assert_eq!(variable.size(), state[&name].size());
            variable.copy_(&state[&name]);
        }
        (model, vs)
    }
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vgg");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6);
    files
}

/// Convolutions may sum in another order than PyTorch's did; float's rounding over 16 layers is allowed for.
fn assert_close(found: &Tensor, expected: &Tensor) {
    let scale = expected.abs().max().double_value(&[]);
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference <= 1e-5 * scale, "{difference:e} of {scale}");
}

#[test]
fn cfg_threshold_and_every_tensor_are_pytorchs() {
    for file in fixtures() {
        let case = Case::read(&file);
        let (mut model, vs) = case.dense();
        let slimmed = model.slim(case.get("percent")).unwrap();

        assert_eq!(slimmed.cfg().to_string(), case.metadata["cfg"], "{}", file.display());
        assert_eq!(slimmed.plan().threshold(), Some(case.get("threshold")));
        assert_eq!(slimmed.plan().parameters().after, case.get::<i64>("parameters"));
        assert_same(&values(&vs), &case.state("slim."));

        let output = model.forward_t(&case.tensors["input"], false);
        assert_close(&output, &case.tensors["slim_output"]);
    }
}

#[test]
fn the_masked_network_is_pytorchs() {
    for file in fixtures() {
        let case = Case::read(&file);
        let (mut model, _vs) = case.dense();
        let plan = model.plan(&Slimming::ratio(case.get("percent"))).unwrap();
        model.mask(&plan).unwrap();
        let output = model.forward_t(&case.tensors["input"], false);
        assert_close(&output, &case.tensors["masked_output"]);
    }
}

#[test]
fn the_fixtures_hold_a_floor_and_ties() {
    let reached = |name: &str| {
        let case = Case::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vgg").join(name));
        case.dense().0.plan(&Slimming::ratio(case.get("percent"))).unwrap()
    };
    assert!(reached("vgg16_one_layer_empty.safetensors").floored().any(|path| path == "feature.3.bn"));
    let ties = reached("vgg11_ties.safetensors");
    assert!(ties.channels().after < ties.removable() as i64 - (ties.removable() as f64 * 0.5) as i64 - 1);
}

#[test]
fn full_size_networks_have_the_papers_figures() {
    for (classes, parameters) in [(10, 20_035_018), (100, 20_081_188)] {
        let vs = VarStore::new(Device::Cpu);
        let model = Vgg::new(vs.root(), &vgg::cfg(19).unwrap(), classes).unwrap();
        spread_scores(&vs);
        let plan = model.plan(&Slimming::ratio(0.5)).unwrap();
        assert_eq!(plan.parameters().before, parameters);
        assert_eq!(plan.channels().before, 5504);
        assert_eq!(plan.channels().after, 2751);
        assert_eq!(plan.floored().count(), 0);
    }
}

/// 5,504 different scores, spread over all layers alike: 2657 and 5504 have no common factor.
fn spread_scores(vs: &VarStore) {
    let _no_grad = tch::no_grad_guard();
    let mut next = 0;
    for (name, mut variable) in vs.variables() {
        if variable.dim() == 1 && name.ends_with("weight") {
            let scores: Vec<f32> = (0..variable.size()[0]).map(|i| ((next + i) * 2657 % 5504) as f32 / 5504.).collect();
            next += scores.len() as i64;
            variable.copy_(&Tensor::from_slice(&scores));
        }
    }
    assert_eq!(next, 5504);
}
