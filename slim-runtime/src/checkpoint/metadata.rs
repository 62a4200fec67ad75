//! What a file says besides its tensors.

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::plan::{Plan, Positions, Slimmed};
use crate::{Cfg, Error, Result};

/// Version of what [`save`](super::save) and [`save_weights`](super::save_weights) write.
const FORMAT: u32 = 1;

/// Keys of the metadata. Their values are text, as safetensors has it.
mod key {
    /// Not `format`, by which Python's libraries tell frameworks apart.
    pub(super) const FORMAT: &str = "slim_format";
    pub(super) const CFG: &str = "cfg";
    pub(super) const PLAN: &str = "plan";
    pub(super) const POSITIONS: &str = "positions";
}

/// The metadata of a file.
pub(super) struct Metadata<'f> {
    file: &'f Path,
    entries: HashMap<String, String>,
}

/// What weights alone are written with.
pub(super) fn of_weights() -> HashMap<String, String> {
    HashMap::from([(key::FORMAT.to_owned(), FORMAT.to_string())])
}

/// What the weights of a slimmed network are written with; `plan` is its plan with the names of its variables.
///
/// # Errors
/// None that is known: all of it has a place in JSON.
pub(super) fn of_slimmed(slimmed: &Slimmed, plan: &Plan) -> Result<HashMap<String, String>> {
    let json = |error: serde_json::Error| Error::PlanInvalid { reason: error.to_string() };
    let mut entries = of_weights();
    entries.insert(key::CFG.to_owned(), plan.cfg().to_string());
    entries.insert(key::PLAN.to_owned(), serde_json::to_string(plan).map_err(json)?);
    if !slimmed.positions().is_empty() {
        entries.insert(key::POSITIONS.to_owned(), serde_json::to_string(slimmed.positions()).map_err(json)?);
    }
    Ok(entries)
}

impl<'f> Metadata<'f> {
    /// # Errors
    /// [`Error::Format`] when the file was written by a later version of this crate.
    pub(super) fn new(file: &'f Path, entries: Option<HashMap<String, String>>) -> Result<Self> {
        let metadata = Self { file, entries: entries.unwrap_or_default() };
        match metadata.entries.get(key::FORMAT).map(|format| format.parse::<u32>()) {
            // A plain file.
            None => Ok(metadata),
            Some(Ok(1..=FORMAT)) => Ok(metadata),
            Some(Ok(format @ 1..)) => Err(metadata.error(format!(
                "it is of slim's format {format}, and this version reads {FORMAT} at most; take a later version of slim-runtime"
            ))),
            Some(_) => Err(metadata.error(format!("its metadata has `{}` for a `{}`", metadata.entries[key::FORMAT], key::FORMAT))),
        }
    }

    pub(super) fn cfg(&self) -> Result<Cfg> {
        self.entry(key::CFG)?.parse()
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        self.parsed(key::PLAN, self.entry(key::PLAN)?)
    }

    /// Empty where the network stores none.
    pub(super) fn positions(&self) -> Result<Positions> {
        self.entries.get(key::POSITIONS).map_or_else(|| Ok(Positions::new()), |text| self.parsed(key::POSITIONS, text))
    }

    fn entry(&self, key: &str) -> Result<&str> {
        let missing =
            || self.error(format!("its metadata has no {key}; `checkpoint::save` writes one, and `checkpoint::load_weights` needs none"));
        self.entries.get(key).map(String::as_str).ok_or_else(missing)
    }

    fn parsed<T: DeserializeOwned>(&self, key: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.error(format!("the {key} in its metadata cannot be used: {error}")))
    }

    fn error(&self, reason: String) -> Error {
        Error::Format { file: self.file.to_owned(), reason }
    }
}
