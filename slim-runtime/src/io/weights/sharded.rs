//! Reads the tensors of several safetensors files by their index, as Hugging Face's libraries write
//! it: `{"weight_map": {"tensor": "file"}}`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use tch::Tensor;

use super::problem::{Problem, Result};
use crate::io::checkpoint::File;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the tensors that an index names.
///
/// # Errors
/// An index that is not one, or whose files are not in its folder, are missing or damaged, or have
/// not the tensors that it says.
pub(super) fn read(path: &Path) -> crate::Result<BTreeMap<String, Tensor>> {
    let index = index(path).map_err(|problem| problem.in_file(path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let mut tensors = BTreeMap::new();
    for name in files {
        let file = file_in(folder, name).map_err(|problem| problem.in_file(path))?;
        // A pipe would block, and a device may never end.
        if fs::metadata(&file).is_ok_and(|kind| !kind.is_file()) {
            let reason = format!("`{name}`, which the index gives, is no regular file");
            return Err(Problem::Reason(reason).in_file(path));
        }
        let mut found = File::open(file)?.tensors()?;
        for (tensor, _) in index.weight_map.iter().filter(|(_, file)| *file == name) {
            let Some(value) = found.remove(tensor) else {
                let reason = format!("`{tensor}` is not in `{name}`, which the index gives");
                return Err(Problem::Reason(reason).in_file(path));
            };
            tensors.insert(tensor.clone(), value);
        }
    }
    Ok(tensors)
}

fn index(path: &Path) -> Result<Index> {
    let no_index = |error| {
        format!("no index of safetensors files ({error}); an index has a `weight_map`").into()
    };
    serde_json::from_slice(&fs::read(path)?).map_err(no_index)
}

/// The path of a file beside the index.
///
/// # Errors
/// A name that leads out of the folder.
fn file_in(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(folder.join(name)),
        _ => Err(format!("its files must be beside it, and `{name}` is not").into()),
    }
}
