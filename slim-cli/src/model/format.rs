//! Detects the format of a file by its first bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::archive;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    /// Written by tch's `VarStore::save`.
    Ot,
    Pytorch,
}

/// The longest header that safetensors allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

impl Format {
    /// Detects the format of a file.
    ///
    /// # Errors
    /// A file that cannot be read, is not a regular file, is empty, is a damaged zip, or has
    /// another format.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let kind = fs::metadata(path).context("cannot read")?;
        ensure!(!kind.is_dir(), "is a folder; give the file in it");
        // Opening a pipe would block, and a device may never end.
        ensure!(kind.is_file(), "is no regular file");
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(16).read_to_end(&mut start))
            .context("cannot read")?;
        ensure!(!start.is_empty(), "is empty");
        if start.starts_with(b"PK") {
            return Ok(if archive::checked(path)?.is_torch_script {
                Self::Ot
            } else {
                Self::Pytorch
            });
        }
        // Safetensors: the length of the JSON header, then the header's first byte. Checked first,
        // since a length may begin with the first byte of a pickle.
        let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let json =
            start.get(8) == Some(&b'{') && length.is_some_and(|length| length <= LONGEST_HEADER);
        let named =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
        match start.first() {
            _ if json => Ok(Self::Safetensors),
            // A pickle of protocol 2 or later.
            Some(0x80) if start.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) => {
                Ok(Self::Pytorch)
            }
            _ if named => Ok(Self::Safetensors),
            // A pickle of an earlier protocol.
            Some(b'(' | b'}' | b']' | b'c' | b'L' | b'I') => Ok(Self::Pytorch),
            _ if is_tar(path)? => Ok(Self::Pytorch),
            _ => bail!("is neither a safetensors file nor one that PyTorch or tch saved"),
        }
    }
}

/// Whether the file is a tar archive, PyTorch's format before 0.1.10.
fn is_tar(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(262).read_to_end(&mut start))
        .context("cannot read")?;
    Ok(start.get(257..) == Some(b"ustar"))
}
