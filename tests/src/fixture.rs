//! Results that PyTorch computed.

use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use crate::device;
use crate::place::path;

/// A file of `tests/fixtures`: tensors and metadata.
pub struct Fixture {
    /// Options and results that are not tensors.
    pub metadata: HashMap<String, String>,
    /// The tensors by name, on the device of the tests.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads `tests/fixtures/NAME.safetensors`.
    ///
    /// # Panics
    /// When the file does not exist, or holds anything but floats, doubles and 64-bit integers.
    pub fn read(name: &str) -> Self {
        let file = path(format!("fixtures/{name}.safetensors"));
        let buffer =
            std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tensors = SafeTensors::deserialize(&buffer).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&buffer).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::I64 => Kind::Int64,
                other => panic!("{name}: {other:?}"),
            };
            let size: Vec<_> = view.shape().iter().map(|&size| size as i64).collect();
            (name, Tensor::from_data_size(view.data(), &size, kind).to_device(device()))
        };
        Fixture {
            metadata: metadata.metadata().clone().unwrap_or_default(),
            tensors: tensors.tensors().into_iter().map(tensor).collect(),
        }
    }

    /// A value of the metadata.
    ///
    /// # Panics
    /// When it does not exist, or is not of this type.
    pub fn get<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> T {
        self.metadata[key].parse().unwrap()
    }

    /// The tensor of this name.
    ///
    /// # Panics
    /// When it does not exist.
    pub fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    /// The tensors whose names begin with `prefix`, by the rest of their names.
    pub fn state(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }
}
