//! Networks from files of every kind. `tests/fixtures/checkpoints.py` made the files of PyTorch and
//! of the reference implementation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod contradictions;
mod forms;
mod hostile;
mod memory;
mod pickle;
mod reference;
#[cfg(feature = "onnx")]
mod served;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use slim_cli::model::{Model, Wanted};
use slim_runtime::Prunable;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

/// A file that the oracle made.
fn fixture(name: &str) -> PathBuf {
    slim_tests::place::path("fixtures/checkpoints").join(name)
}

/// The options for the VGG in the fixtures, which a user has to state.
fn vgg() -> Wanted {
    Wanted {
        cfg: Some("[8, 'M', 8, 'M', 8, 8, 'M', 12, 12, 'M', 12, 12]".parse().unwrap()),
        ..Wanted::default()
    }
}

fn read(file: &Path, wanted: &Wanted) -> Model {
    Model::read(file, wanted, Device::Cpu).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The error that a user reads, without the folder.
fn refused(file: &Path, wanted: &Wanted) -> String {
    let error =
        Model::read(file, wanted, Device::Cpu).map(|model| model.spec.to_string()).unwrap_err();
    let (error, file) = (format!("{error:#}"), file.display().to_string());
    let text = error.strip_prefix(&file).unwrap_or_else(|| panic!("{file} is not named: {error}"));
    assert!(!text.contains(&file), "it is named twice: {error}");
    format!("FILE{text}")
}

fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

fn assert_same(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) {
    assert!(found.keys().eq(expected.keys()), "{:?} and {:?}", found.keys(), expected.keys());
    for (name, tensor) in found {
        assert!(tensor.size() == expected[name].size() && tensor.equal(&expected[name]), "{name}");
    }
}

fn slim(model: &mut Model, ratio: f64) {
    let slimmed = model.net.slim(ratio).unwrap();
    model.slimmed = Some(match &model.slimmed {
        Some(before) => before.then(&slimmed).unwrap(),
        None => slimmed,
    });
}

fn output(model: &Model, input: &Tensor) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    model.net.forward_t(&input.to_device(model.vs.device()), false)
}

/// The names in a safetensors file.
fn names(file: &Path) -> BTreeSet<String> {
    slim_runtime::checkpoint::tensors(file).unwrap().into_keys().collect()
}

/// Writes a model, reads it again without options, and asserts that it is the same.
fn assert_comes_back(model: &Model, input: &Tensor) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    model.writer().unwrap().write(&file).unwrap();
    let again = read(&file, &Wanted::default());
    assert_eq!((&again.spec, &again.slimmed), (&model.spec, &model.slimmed));
    assert_same(&values(&again.vs), &values(&model.vs));
    assert!(again.beside.keys().eq(model.beside.keys()));
    assert!(output(&again, input).equal(&output(model, input)));
    again
}
