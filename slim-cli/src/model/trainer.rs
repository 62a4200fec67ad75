//! What trainers save beside the weights: a cfg, the name of the network, epoch and accuracy.

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value};
use slim_runtime::{Cfg, Stage, weights};

use super::contents::Contents;
use super::names;
use crate::network::Arch;

/// Keys of the best accuracy.
const ACCURACIES: [&str; 2] = ["best_prec1", "best_acc1"];

/// The contents of a file of another library.
///
/// # Errors
/// A cfg that has something else than widths, and names that are there twice.
pub(super) fn contents(file: weights::File) -> Result<Contents> {
    let values = file.metadata();
    let cfg = values.get("cfg").map(cfg).transpose()?.flatten();
    let (arch, note) = (values.get("arch").and_then(arch), note(values));
    Ok(Contents { tensors: names::unwrapped(file.into_tensors())?, cfg, arch, note })
}

/// The reference's list of widths; `None` for a `cfg` that is not a list.
fn cfg(value: &Value) -> Result<Option<Cfg>> {
    let Value::Array(entries) = value else { return Ok(None) };
    let stage = |(index, entry): (usize, &Value)| match (entry.as_i64(), entry.as_str()) {
        (Some(width @ 1..), _) => Ok(Stage::from(width)),
        (_, Some("M")) => Ok(Stage::MaxPool),
        (Some(number), _) => {
            bail!("its cfg has {number} in place {}, which is no width", index + 1)
        }
        _ => bail!("its cfg has {entry} in place {}, which is neither a width nor 'M'", index + 1),
    };
    entries.iter().enumerate().map(stage).collect::<Result<_>>().map(Some)
}

/// The network of the zoo with the name that the file gives.
fn arch(value: &Value) -> Option<Arch> {
    Arch::from_str(value.as_str()?, false).ok()
}

/// Epoch and accuracy of training, if the file has them.
fn note(values: &Map<String, Value>) -> Option<String> {
    let epoch = values.get("epoch").and_then(Value::as_i64).map(|epoch| format!("epoch {epoch}"));
    let accuracy = ACCURACIES.into_iter().find_map(|key| values.get(key)?.as_f64());
    let accuracy = accuracy.filter(|accuracy| (0. ..=100.).contains(accuracy)).map(|accuracy| {
        // The reference saves a share of 1, others a percentage.
        format!("accuracy {:.2}", if accuracy <= 1. { 100. * accuracy } else { accuracy })
    });
    epoch.into_iter().chain(accuracy).reduce(|note, more| format!("{note}, {more}"))
}
