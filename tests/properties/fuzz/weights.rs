//! Files for `slim_runtime::weights`: a store is filled, or it is as it was and the error names the
//! file. TorchScript archives, and several safetensors files by an index, which `files` has not.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;
use slim_runtime::weights::{self, Loader};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::files::{Change, change, changed};
use crate::guard::fuzz;
use crate::mutation::{mutated, mutations, pieces};

/// A store of a few variables.
fn store() -> VarStore {
    let vs = VarStore::new(Device::Cpu);
    let p = vs.root();
    let _ = p.var("weight", &[3, 2], tch::nn::Init::Const(0.5));
    let _ = p.var("bias", &[3], tch::nn::Init::Const(0.5));
    let _ = (&p / "deep" / "er").var("weight", &[4], tch::nn::Init::Const(0.5));
    vs
}

/// Loads all that fits, and then everything or nothing. Returns whether either succeeded.
fn check(path: &Path) -> bool {
    let strict = |is_strict| {
        let mut vs = store();
        let loaded = Loader::new().strict(is_strict).load(path, &mut vs);
        if let Err(error) = &loaded {
            let error = error.to_string();
            let folder = path.parent().unwrap().display().to_string();
            assert!(error.starts_with(&folder), "{error}");
            for (name, variable) in vs.variables() {
                let half = Tensor::full_like(&variable, 0.5);
                assert!(variable.equal(&half), "{name} has changed, and the file was refused");
            }
        }
        loaded.is_ok()
    };
    let _ = weights::names(path);
    strict(false) | strict(true)
}

fn safetensors(tensors: &[(&str, Tensor)], path: PathBuf) {
    Tensor::write_safetensors(tensors, path).unwrap();
}

#[test]
fn indexes_of_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let options = (tch::Kind::Float, Device::Cpu);
    let (weight, bias) = (Tensor::ones([3, 2], options), Tensor::ones([3], options));
    safetensors(&[("weight", weight), ("bias", bias)], folder.path().join("a.safetensors"));
    let deep = ("deep.er.weight", Tensor::ones([4], options));
    safetensors(&[deep], folder.path().join("b.safetensors"));
    let index = folder.path().join("model.safetensors.index.json");
    let sound = r#"{"metadata": {"total_size": 52}, "weight_map": {"weight": "a.safetensors", "bias": "a.safetensors", "deep.er.weight": "b.safetensors"}}"#;
    let dictionary = pieces(&[
        "a.safetensors",
        "b.safetensors",
        "../a.safetensors",
        "/dev/zero",
        ".",
        "",
        "weight_map",
        "weight",
        "{",
        "[",
        "null",
        "1e999",
        "\\u0000",
    ]);
    let dictionary = dictionary.into_iter().chain([b"[".repeat(3000), b"{\"a\":".repeat(3000)]);
    let inputs =
        mutations(dictionary.collect()).prop_map(|changes| mutated(sound.as_bytes(), &changes));
    fuzz(500, inputs, |bytes| {
        fs::write(&index, bytes).unwrap();
        check(&index)
    });
}

#[test]
fn archives_of_torch_script() {
    let folder = tempfile::tempdir().unwrap();
    // `torch.jit.script(nn.Linear(2, 3))`.
    let script = fs::read(slim_tests::place::path("fixtures/checkpoints/script.hostile")).unwrap();
    let path = folder.path().join("fuzzed.pt");
    let inputs = (select(vec![script]), change())
        .prop_map(|(file, change): (Vec<u8>, Change)| changed(&file, &change));
    fuzz(500, inputs, |bytes| {
        fs::write(&path, bytes).unwrap();
        check(&path)
    });
}
