//! Files that show whether they are complete.

use std::path::Path;

use slim_runtime::checkpoint;
use tch::Device;
use tch::nn::{Init, VarStore};

/// Writes a file of two tensors in which every value is `version`.
pub fn write(file: &Path, elements: i64, version: f64) -> slim_runtime::Result<()> {
    let vs = VarStore::new(Device::Cpu);
    let _a = vs.root().var("a", &[elements], Init::Const(version));
    let _b = vs.root().var("b", &[3, 5], Init::Const(version));
    checkpoint::save_weights(file, &vs)
}

/// The version of a file, which must be complete.
pub fn version(file: &Path, elements: i64) -> f64 {
    let mut vs = VarStore::new(Device::Cpu);
    let tensors = [vs.root().zeros("a", &[elements]), vs.root().zeros("b", &[3, 5])];
    checkpoint::load_weights(file, &mut vs).unwrap_or_else(|error| panic!("{error}"));
    let version = tensors[0].double_value(&[0]);
    assert!(
        tensors.iter().all(|tensor| tensor.eq(version).all().int64_value(&[]) == 1),
        "values of several versions"
    );
    version
}
