//! Latency tables as JSON. Reading checks a table.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Entry, LatencyTable};
use crate::analysis::latency::{Conditions, ensure_exist};
use crate::error::{ArgumentError, FileError};
use crate::io::atomic;
use crate::numeric::{Grid, LayerShape};
use crate::{Error, Result};

/// Version of the format.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    format: u32,
    libtorch: String,
    device: String,
    threads: i32,
    kind: String,
    shapes: Vec<EntryFile>,
    /// By field path and tensor: the positions in `shapes`.
    layers: BTreeMap<String, Vec<usize>>,
}

/// A shape with its times in nanoseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFile {
    shape: LayerShape,
    lower: Grid,
    median: Grid,
    upper: Grid,
}

impl LatencyTable {
    /// The table as indented JSON: the conditions; each shape with the quartiles of its times in
    /// nanoseconds, as a grid by the first two dimensions of its weight; and the shapes of each
    /// layer.
    ///
    /// # Errors
    /// None that is known: every table can be represented in JSON.
    pub fn to_json(&self) -> Result<String> {
        let Conditions { device, threads, kind } = self.conditions.clone();
        let shapes = self.entries.iter().cloned().map(|entry| {
            let Entry { shape, lower, median, upper } = entry;
            EntryFile { shape, lower, median, upper }
        });
        let file = TableFile {
            format: FORMAT,
            libtorch: self.libtorch.clone(),
            device,
            threads,
            kind,
            shapes: shapes.collect(),
            layers: self.layers.clone(),
        };
        serde_json::to_string_pretty(&file).map_err(|error| no_table(error.to_string()))
    }

    /// Parses the output of [`to_json`](Self::to_json). The table is equal.
    ///
    /// # Errors
    /// [`ArgumentError::LatencyJson`](crate::error::ArgumentError::LatencyJson), with the rule that
    /// the text breaks: times are positive, and no lower quartile is above its median;
    /// widths ascend; shapes are such as layers have.
    pub fn from_json(text: &str) -> Result<Self> {
        parsed(text).map_err(no_table)
    }

    /// Writes the table as JSON. The file appears complete or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, file: impl AsRef<Path>) -> Result<()> {
        let (file, text) = (file.as_ref(), self.to_json()? + "\n");
        atomic::write(file, |target| target.write_all(text.as_bytes())).map_err(|cause| Error::Io {
            file: file.to_owned(),
            action: "write the latency table",
            cause,
        })
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`FileError::Format`](crate::error::FileError::Format) for the reasons of
    /// [`from_json`](Self::from_json).
    pub fn load(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let text = fs::read_to_string(file).map_err(|cause| Error::Io {
            file: file.to_owned(),
            action: "read the latency table",
            cause,
        })?;
        parsed(&text).map_err(|reason| {
            let reason = format!("no latency table: {reason}; name another file, or remove this one and measure again");
            Error::File(FileError::Format { file: file.to_owned(), reason })
        })
    }
}

fn no_table(reason: String) -> Error {
    Error::Argument(ArgumentError::LatencyJson { reason })
}

fn parsed(text: &str) -> Result<LatencyTable, String> {
    let file: TableFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let TableFile { format, libtorch, device, threads, kind, shapes, layers } = file;
    if format != FORMAT {
        return Err(format!("it is of format {format}, but only format {FORMAT} can be read"));
    }
    if threads < 1 {
        return Err(format!("{threads} is no number of threads"));
    }
    let entries: Vec<Entry> = shapes
        .into_iter()
        .enumerate()
        .map(|(index, entry)| checked(entry).map_err(|reason| format!("shape {index}: {reason}")))
        .collect::<Result<_, _>>()?;
    ensure_exist(&layers, entries.len())?;
    let conditions = Conditions { device, threads, kind };
    Ok(LatencyTable { conditions, libtorch, entries, layers })
}

fn checked(EntryFile { shape, lower, median, upper }: EntryFile) -> Result<Entry, String> {
    shape.check()?;
    if lower.widths() != median.widths() || upper.widths() != median.widths() {
        return Err("its quartiles are of different widths".to_owned());
    }
    if !(lower.is_within(&median) && median.is_within(&upper)) {
        return Err("its quartiles are not in order".to_owned());
    }
    Ok(Entry { shape, lower, median, upper })
}
