//! Reads files of tch's `VarStore::save`: a TorchScript module whose attributes are the variables.
//!
//! libtorch's own reader compiles and runs the code in such a file, so that an untrusted file could
//! do anything. This module reads the pickle like that of any PyTorch file, and ignores the code.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use pytorch_reader::PytorchReader;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::archive::{self, Archive};
use super::contents::Contents;
use super::pytorch::unread;
use super::tensors;

/// Start of the pickle of a module without methods and submodules: an object of this class, whose
/// attributes follow as a dict.
const OBJECT: &[u8] = b"\x80\x02c__torch__\nModule\nq\x00)\x81";

/// Reads the tensors of a `.ot` file.
///
/// # Errors
/// A TorchScript module that tch did not save.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let other = "it is a TorchScript module that tch did not save; save its `state_dict()` with `torch.save`";
    let mut archive = archive::checked(path)?;
    let names = archive.names()?;
    let pickle = names.iter().find(|name| archive::is_at_root(name, "data.pkl")).context(other)?;
    let dict = as_dict(&archive.read(pickle)?).context(other)?;
    let reader =
        PytorchReader::from_bytes(with_pickle(&mut archive, &dict)?, None).map_err(unread)?;
    let mut named = BTreeMap::new();
    for (name, tensor) in reader.into_tensors() {
        // tch replaces dots by `|`, since attribute names have no dots.
        if name.contains('.') {
            bail!("{other}");
        }
        named.insert(name.replace('|', "."), tensor);
    }
    Contents::of(tensors::read(named, path)?)
}

/// A pickle of the attributes, as a dict, of the object that `pickle` makes.
fn as_dict(pickle: &[u8]) -> Option<Vec<u8>> {
    let attributes = pickle.strip_prefix(OBJECT)?;
    // The last opcodes: BUILD, then BINPUT or LONG_BINPUT, then STOP.
    let attributes = match attributes {
        [attributes @ .., b'b', b'q', _, b'.']
        | [attributes @ .., b'b', b'r', _, _, _, _, b'.'] => attributes,
        _ => return None,
    };
    Some([b"\x80\x02", attributes, b"."].concat())
}

/// A copy of the archive's tensors with another pickle.
fn with_pickle(archive: &mut Archive, pickle: &[u8]) -> Result<Vec<u8>> {
    let mut copy = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.zip.len() {
        let entry = archive.zip.by_index_raw(index)?;
        let name = entry.name()?.into_owned();
        if let Some(("data", key)) = name.split_once('/').and_then(|(_, rest)| rest.split_once('/'))
        {
            copy.raw_copy_file_rename(entry, format!("file/data/{key}"))?;
        }
    }
    copy.start_file(
        "file/data.pkl",
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
    )?;
    copy.write_all(pickle)?;
    Ok(copy.finish()?.into_inner())
}
