//! The metadata of a checkpoint: everything in the file but the tensors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::FileError;
use crate::plan::{Plan, Slimmed, StoredPositions};
use crate::{Cfg, Error, Result};

/// Version of the format that [`save`](super::save) and [`save_weights`](super::save_weights)
/// write.
const FORMAT: u32 = 1;

/// Keys of the metadata. Their values are text, as safetensors requires.
mod key {
    /// Not `format`, which Python's libraries use to tell frameworks apart.
    pub(super) const FORMAT: &str = "slim_format";
    pub(super) const CFG: &str = "cfg";
    pub(super) const PLAN: &str = "plan";
    pub(super) const POSITIONS: &str = "positions";
    pub(super) const BESIDE: &str = "beside";
    pub(super) const TAKEN: [&str; 6] = [FORMAT, CFG, PLAN, POSITIONS, BESIDE, "format"];
}

/// The metadata of a file.
pub(super) struct Metadata {
    file: PathBuf,
    entries: HashMap<String, String>,
}

/// The metadata to write: the format version; for a slimmed network its cfg, its plan with the
/// names of the variables, and its stored positions; the names of the tensors that are not
/// variables; the user's entries.
///
/// # Errors
/// The reason as text, when a user's key is one that this crate or other libraries use.
pub(crate) fn of<'b>(
    slimmed: Option<(&Slimmed, &Plan)>,
    beside: impl Iterator<Item = &'b String>,
    users: BTreeMap<String, String>,
) -> std::result::Result<HashMap<String, String>, String> {
    if let Some(key) = users.keys().find(|key| key::TAKEN.contains(&key.as_str())) {
        return Err(format!("the metadata's key `{key}` is taken; choose another"));
    }
    let mut entries: HashMap<_, _> = users.into_iter().collect();
    entries.insert(key::FORMAT.to_owned(), FORMAT.to_string());
    let beside: Vec<_> = beside.collect();
    if !beside.is_empty() {
        entries.insert(key::BESIDE.to_owned(), json(&beside)?);
    }
    if let Some((slimmed, plan)) = slimmed {
        entries.insert(key::CFG.to_owned(), plan.cfg().to_string());
        entries.insert(key::PLAN.to_owned(), json(plan)?);
        if !slimmed.positions().is_empty() {
            entries.insert(key::POSITIONS.to_owned(), json(slimmed.positions())?);
        }
    }
    Ok(entries)
}

/// Serialises a value as JSON. No failure is known, since every value written here can be
/// represented in JSON.
fn json<T: Serialize + ?Sized>(value: &T) -> std::result::Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

impl Metadata {
    /// # Errors
    /// [`FileError::Format`](crate::error::FileError::Format) when the file was written by a later
    /// version of this crate.
    pub(super) fn new(file: &Path, entries: Option<HashMap<String, String>>) -> Result<Self> {
        let metadata = Self { file: file.to_owned(), entries: entries.unwrap_or_default() };
        match metadata.entries.get(key::FORMAT).map(|format| format.parse::<u32>()) {
            // A file of another program.
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

    pub(super) fn has_plan(&self) -> bool {
        self.entries.contains_key(key::PLAN)
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        self.parsed(key::PLAN, self.entry(key::PLAN)?)
    }

    /// The stored positions; empty when the network has none.
    pub(super) fn positions(&self) -> Result<StoredPositions> {
        self.entries
            .get(key::POSITIONS)
            .map_or_else(|| Ok(StoredPositions::new()), |text| self.parsed(key::POSITIONS, text))
    }

    /// Names of the tensors that are not variables.
    pub(super) fn beside(&self) -> Result<BTreeSet<String>> {
        self.entries
            .get(key::BESIDE)
            .map_or_else(|| Ok(BTreeSet::new()), |text| self.parsed(key::BESIDE, text))
    }

    #[cfg(feature = "pytorch")]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &String)> {
        self.entries.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    fn entry(&self, key: &str) -> Result<&str> {
        let missing = || {
            self.error(format!("its metadata has no {key}; `checkpoint::save` writes one, and `checkpoint::load_weights` needs none"))
        };
        self.entries.get(key).map(String::as_str).ok_or_else(missing)
    }

    fn parsed<T: DeserializeOwned>(&self, key: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| {
            self.error(format!("the {key} in its metadata cannot be used: {error}"))
        })
    }

    fn error(&self, reason: String) -> Error {
        Error::File(FileError::Format { file: self.file.clone(), reason })
    }
}
