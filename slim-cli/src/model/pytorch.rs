//! Reads files of `torch.save`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use pytorch_reader::{PickleValue, PytorchError, PytorchReader};
use slim_runtime::{Cfg, Stage};
use tch::Kind;

use super::contents::Contents;
use super::{names, tensors};
use crate::network::Arch;

/// Keys of the state dict, in files where trainers save other values with it.
const KEYS: [&str; 4] = ["state_dict", "model", "model_state_dict", "net"];
/// Keys of the best accuracy in such files.
const ACCURACIES: [&str; 2] = ["best_prec1", "best_acc1"];

/// Reads the tensors of a file.
///
/// # Errors
/// A file that is damaged, holds no state dict, would have to run code, or has tensors of types
/// that are not supported.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let PickleValue::Dict(root) = PytorchReader::read_pickle_data(path, None).map_err(unread)?
    else {
        bail!("it holds no dictionary of tensors; save the network's `state_dict()`");
    };
    let key = key(&root)?;
    let named = match key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let named: BTreeMap<_, _> = named.map_err(unread)?.into_tensors().into_iter().collect();
    let there =
        key.and_then(|key| root.get(key)).map_or_else(|| root.values().map(count).sum(), count);
    if named.len() != there {
        bail!("it has {there} tensors with {} different names", named.len());
    }
    Ok(Contents {
        tensors: names::unwrapped(tensors::read(named, path)?)?,
        cfg: root.get("cfg").map(cfg).transpose()?.flatten(),
        arch: root.get("arch").and_then(arch),
        note: note(&root, path)?,
    })
}

/// Keeps only the error's own text, which includes the cause.
pub(super) fn unread(error: PytorchError) -> anyhow::Error {
    anyhow!("{error}")
}

/// The key of the state dict; `None` if the file itself is the state dict.
fn key(root: &HashMap<String, PickleValue>) -> Result<Option<&'static str>> {
    let holds = |key: &&str| matches!(root.get(*key), Some(entries @ PickleValue::Dict(_)) if count(entries) > 0);
    match KEYS.into_iter().filter(holds).collect::<Vec<_>>()[..] {
        [] if root.values().any(|value| count(value) > 0) => Ok(None),
        [] => {
            let mut keys: Vec<_> = root.keys().map(String::as_str).collect();
            keys.sort_unstable();
            bail!("it holds no tensors, at the top or under {}; it has {keys:?}", KEYS.join(", "))
        }
        [key] => Ok(Some(key)),
        [first, second, ..] => bail!(
            "it holds tensors under `{first}` and under `{second}`: save the one that is meant"
        ),
    }
}

/// Number of tensors in a value. The recursion is bounded: the reader refuses a pickle that nests
/// more than a thousand levels.
fn count(value: &PickleValue) -> usize {
    match value {
        PickleValue::Unsupported(kind) => usize::from(kind == "torch.Tensor"),
        PickleValue::Dict(entries) => entries.values().map(count).sum(),
        PickleValue::List(entries) => entries.iter().map(count).sum(),
        _ => 0,
    }
}

/// The reference's list of widths; `None` for a `cfg` that is not a list.
fn cfg(value: &PickleValue) -> Result<Option<Cfg>> {
    let PickleValue::List(entries) = value else { return Ok(None) };
    let stage = |(place, entry): (usize, &PickleValue)| match entry {
        PickleValue::Int(width @ 1..) => Ok(Stage::from(*width)),
        PickleValue::String(text) if text == "M" => Ok(Stage::MaxPool),
        PickleValue::Int(number) => {
            bail!("its cfg has {number} in place {}, which is no width", place + 1)
        }
        other => {
            bail!("its cfg has {other:?} in place {}, which is neither a width nor 'M'", place + 1)
        }
    };
    entries.iter().enumerate().map(stage).collect::<Result<_>>().map(Some)
}

/// The network of the zoo with the name that the file gives.
fn arch(value: &PickleValue) -> Option<Arch> {
    let PickleValue::String(name) = value else { return None };
    Arch::from_str(name, false).ok()
}

/// Epoch and accuracy of training, if the file has them.
fn note(root: &HashMap<String, PickleValue>, path: &Path) -> Result<Option<String>> {
    let mut said = Vec::new();
    if let Some(PickleValue::Int(epoch)) = root.get("epoch") {
        said.push(format!("epoch {epoch}"));
    }
    let accuracy = ACCURACIES.into_iter().find_map(|key| Some((key, root.get(key)?)));
    let accuracy = match accuracy {
        Some((_, PickleValue::Float(accuracy))) => Some(*accuracy),
        // The reference saves a tensor: a tensor that it has divided by a number.
        Some((key, PickleValue::Unsupported(kind))) if kind == "torch.Tensor" => scalar(path, key)?,
        _ => None,
    };
    if let Some(accuracy) = accuracy.filter(|accuracy| (0. ..=100.).contains(accuracy)) {
        // The reference saves a share of 1, others a percentage.
        said.push(format!(
            "accuracy {:.2}",
            if accuracy <= 1. { 100. * accuracy } else { accuracy }
        ));
    }
    Ok((!said.is_empty()).then(|| said.join(", ")))
}

fn scalar(path: &Path, key: &str) -> Result<Option<f64>> {
    let reader = PytorchReader::new(path).map_err(unread)?;
    let Some(tensor) = reader.get(key).filter(|tensor| tensor.num_elements() == 1) else {
        return Ok(None);
    };
    let tensor = tensors::read(BTreeMap::from([(key.to_owned(), tensor.clone())]), path)?;
    let tensor = tensor.get(key).context("just read")?;
    let value = tensor.f_to_kind(Kind::Double)?.f_reshape([1])?;
    Ok(Vec::<f64>::try_from(&value)?.first().copied())
}
