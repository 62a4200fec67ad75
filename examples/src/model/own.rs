//! Safetensors files: ours, which say what they hold, and those of other libraries.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use slim_runtime::checkpoint;
use tch::Device;

use super::contents::Contents;
use super::{DATASET, Model, SPEC, Wanted, names};
use crate::data::Name;
use crate::network::Spec;

/// # Errors
/// A file that is not sound, or of another network than the wanted one.
pub(super) fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<Model> {
    let said = checkpoint::metadata(path, SPEC)?;
    let said: Option<Spec> =
        said.map(|text| serde_json::from_str(&text)).transpose().context("the network in its metadata cannot be used")?;
    let is_slimmed = checkpoint::metadata(path, "plan")?.is_some();
    let contents = Contents::of(checkpoint::tensors(path)?)?;
    let spec = match said {
        Some(spec) => {
            wanted.agree(&spec)?;
            spec
        }
        None if is_slimmed => contents.spec(wanted)?,
        None => return Model::holding(contents, path, wanted, device),
    };
    let mut model = Model::new(spec, device)?;
    // One that this program does not know is none to go on with.
    model.dataset = checkpoint::metadata(path, DATASET)?.and_then(|name| Name::from_str(&name, false).ok());
    if is_slimmed {
        model.slimmed = Some(checkpoint::load(path, &mut model.vs, &mut model.net)?);
    } else {
        checkpoint::load_weights(path, &mut model.vs)?;
    }
    // What others have written beside it, such as a trainer its momentum, is theirs to read.
    let carried = contents.tensors.into_iter().filter(|(name, _)| names::is_beside(model.spec.arch, name));
    model.beside = carried.collect();
    Ok(model)
}
