//! Reads files of `torch.save`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use pytorch_reader::{PickleValue, PytorchReader};
use serde_json::{Map, Number, Value};
use tch::{Kind, Tensor};

use super::problem::Result;
use super::tensors;

/// Keys of the state dict, in files where trainers save other values with it.
const KEYS: [&str; 4] = ["state_dict", "model", "model_state_dict", "net"];

/// Reads the tensors of a file, under `key` or where they are found, and the other values at its
/// top.
///
/// # Errors
/// A file that is damaged, holds no state dict, would have to run code, or has tensors of types
/// that are not supported.
pub(super) fn read(
    path: &Path,
    key: Option<&str>,
) -> Result<(BTreeMap<String, Tensor>, Map<String, Value>)> {
    let PickleValue::Dict(root) = PytorchReader::read_pickle_data(path, None)? else {
        return Err("it holds no dictionary of tensors; save the network's `state_dict()`".into());
    };
    let key = match key {
        Some(key) if root.get(key).is_some_and(|entries| count(entries) > 0) => Some(key),
        Some(key) => {
            return Err(format!("it holds no tensors under `{key}`; it has {}", keys(&root)).into());
        }
        None => found(&root)?,
    };
    let named = match key {
        Some(key) => PytorchReader::with_top_level_key(path, key)?,
        None => PytorchReader::new(path)?,
    };
    let named: BTreeMap<_, _> = named.into_tensors().into_iter().collect();
    let there =
        key.and_then(|key| root.get(key)).map_or_else(|| root.values().map(count).sum(), count);
    if named.len() != there {
        return Err(format!("it has {there} tensors with {} different names", named.len()).into());
    }
    let named = tensors::read(named, path.metadata()?.len())?;
    Ok((named, values(&root, key, path)?))
}

/// The key of the state dict; `None` if the file itself is the state dict.
fn found(root: &HashMap<String, PickleValue>) -> Result<Option<&'static str>> {
    let holds = |key: &&str| matches!(root.get(*key), Some(entries @ PickleValue::Dict(_)) if count(entries) > 0);
    match KEYS.into_iter().filter(holds).collect::<Vec<_>>()[..] {
        [] if root.values().any(|value| count(value) > 0) => Ok(None),
        [] => Err(format!(
            "it holds no tensors, at the top or under {}; it has {}",
            KEYS.join(", "),
            keys(root)
        )
        .into()),
        [key] => Ok(Some(key)),
        [first, second, ..] => Err(format!(
            "it holds tensors under `{first}` and under `{second}`: save the one that is meant, or say which with `weights::Loader::key`"
        )
        .into()),
    }
}

fn keys(root: &HashMap<String, PickleValue>) -> String {
    let mut keys: Vec<_> = root.keys().map(String::as_str).collect();
    keys.sort_unstable();
    format!("{keys:?}")
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

/// The values at the top of a file, without the state dict. A tensor of one value is a number.
fn values(
    root: &HashMap<String, PickleValue>,
    key: Option<&str>,
    path: &Path,
) -> Result<Map<String, Value>> {
    let mut values = Map::new();
    let is_beside = |(name, value): &(&String, &PickleValue)| match key {
        Some(key) => name.as_str() != key,
        None => count(value) == 0,
    };
    let is_tensor = |value: &PickleValue| matches!(value, PickleValue::Unsupported(kind) if kind == "torch.Tensor");
    let has_tensors = root.iter().filter(is_beside).any(|(_, value)| is_tensor(value));
    let tensors = has_tensors.then(|| PytorchReader::new(path)).transpose()?;
    for (name, value) in root.iter().filter(is_beside) {
        let value = match &tensors {
            Some(tensors) if is_tensor(value) => tensors.get(name).and_then(scalar),
            _ => json(value),
        };
        values.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(values)
}

/// A value as JSON; `None` for tensors, bytes and objects, and for numbers that JSON does not have.
fn json(value: &PickleValue) -> Option<Value> {
    Some(match value {
        PickleValue::None => Value::Null,
        PickleValue::Bool(value) => Value::Bool(*value),
        PickleValue::Int(value) => Value::from(*value),
        PickleValue::Float(value) => Value::Number(Number::from_f64(*value)?),
        PickleValue::String(text) => Value::String(text.clone()),
        PickleValue::List(entries) => {
            Value::Array(entries.iter().map(|entry| json(entry).unwrap_or_default()).collect())
        }
        PickleValue::Dict(entries) => {
            let entry = |(name, value)| Some((String::clone(name), json(value)?));
            Value::Object(entries.iter().filter_map(entry).collect())
        }
        PickleValue::Bytes(_) | PickleValue::Unsupported(_) => return None,
    })
}

/// The value of a tensor; `None` if it has several, or is of a type that is not supported.
fn scalar(tensor: &pytorch_reader::Tensor) -> Option<Value> {
    if tensor.num_elements() != 1 {
        return None;
    }
    let named = BTreeMap::from([(String::new(), tensor.clone())]);
    let tensors = tensors::read(named, tensor.byte_len() as u64).ok()?;
    let tensor = tensors.values().next()?.f_to_kind(Kind::Double).ok()?.f_reshape([1]).ok()?;
    let value = Vec::<f64>::try_from(&tensor).ok()?.first().copied()?;
    Number::from_f64(value).map(Value::Number)
}
