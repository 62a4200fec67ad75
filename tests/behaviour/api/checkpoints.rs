//! Files: saved state loads back, and a file that does not fit changes nothing.

mod atomic;
mod models;
mod tensors;
mod weights;
mod writer;

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use slim_tests::device;
use tch::nn::VarStore;

use crate::common::Net;

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::new(&vs.root()), vs)
}

/// Shapes and values as a plain safetensors reader finds them.
fn plain(file: &Path) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| {
        data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(view.data()))))
        .collect()
}

fn metadata(file: &Path) -> HashMap<String, String> {
    let bytes = std::fs::read(file).unwrap();
    SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap_or_default()
}

/// Replaces one text of the file's metadata.
fn with_metadata(file: &Path, key: &str, value: &str) {
    let bytes = std::fs::read(file).unwrap();
    let mut entries = metadata(file);
    entries.insert(key.to_owned(), value.to_owned());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    safetensors::serialize_to_file(tensors.tensors(), Some(entries), file).unwrap();
}

/// The error's text without the path of the folder.
fn text(error: slim_runtime::Error, folder: &tempfile::TempDir) -> String {
    error.to_string().replace(&folder.path().display().to_string(), "FOLDER")
}
