//! Detects the format of a file by its first bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::archive;
use super::problem::Result;

/// The format of a file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// The index of several safetensors files, `model.safetensors.index.json`, as Hugging Face's
    /// libraries write it.
    SafetensorsIndex,
    /// TorchScript, as tch's `VarStore::save` (`.ot`) and `torch.jit.save` write it.
    TorchScript,
    /// `torch.save`: today's zip, the formats before PyTorch 1.6, and plain pickles.
    PyTorch,
}

/// The longest header that safetensors allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

impl Format {
    /// Detects the format of a file from its first bytes. An index of safetensors has to end in
    /// `.json`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) for a file that cannot be read;
    /// [`FileError::Format`](crate::error::FileError::Format) for one that is not a regular file,
    /// is empty, is a damaged zip, or has another format.
    pub fn of(path: impl AsRef<Path>) -> crate::Result<Self> {
        let path = path.as_ref();
        detected(path).map_err(|problem| problem.in_file(path))
    }
}

pub(super) fn detected(path: &Path) -> Result<Format> {
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err("is a folder; give the file in it".into());
    }
    // Opening a pipe would block, and a device may never end.
    if !kind.is_file() {
        return Err("is no regular file".into());
    }
    let mut start = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut start)?;
    if start.is_empty() {
        return Err("is empty".into());
    }
    // Safetensors: the length of the JSON header, then the header's first byte. Checked first,
    // since a length may begin with the first byte of a pickle.
    let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let json = start.get(8) == Some(&b'{') && length.is_some_and(|length| length <= LONGEST_HEADER);
    if json {
        return Ok(Format::Safetensors);
    }
    if start.starts_with(b"PK") {
        return Ok(if archive::checked(path)?.is_torch_script {
            Format::TorchScript
        } else {
            Format::PyTorch
        });
    }
    let named = |wanted: &str| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
    };
    match start.first() {
        Some(b'{') if named("json") => Ok(Format::SafetensorsIndex),
        // A pickle of protocol 2 or later.
        Some(0x80) if start.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) => {
            Ok(Format::PyTorch)
        }
        _ if named("safetensors") => Ok(Format::Safetensors),
        // A pickle of an earlier protocol.
        Some(b'(' | b'}' | b']' | b'c' | b'L' | b'I') => Ok(Format::PyTorch),
        _ if is_tar(path)? => {
            archive::check_tar(path)?;
            Ok(Format::PyTorch)
        }
        _ => Err("is neither a safetensors file nor one that PyTorch or tch saved".into()),
    }
}

/// Whether the file is a tar archive, PyTorch's format before 0.1.10.
fn is_tar(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(262).read_to_end(&mut start)?;
    Ok(start.get(257..) == Some(b"ustar"))
}
