//! The zip archive that PyTorch and tch write, checked before its contents are used.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::problem::Result;

/// Largest ratio of unpacked size to file size. PyTorch does not compress, and weights hardly
/// shrink when compressed; a file far beyond this ratio would fill the memory.
pub(super) const MOST_PER_BYTE: u64 = 16;

/// An archive without duplicate names, whose unpacked size is limited by its file size.
pub(super) struct Archive {
    pub(super) zip: ZipArchive<BufReader<File>>,
    /// Whether it is TorchScript, as tch's `VarStore::save` and `torch.jit.save` write it.
    pub(super) is_torch_script: bool,
}

/// Opens and checks a zip archive.
///
/// # Errors
/// A damaged zip, a duplicate name, or an unpacked size far above the file size.
pub(super) fn checked(path: &Path) -> Result<Archive> {
    let file = File::open(path)?;
    let most = file.metadata()?.len().saturating_mul(MOST_PER_BYTE);
    let mut zip = ZipArchive::new(BufReader::new(file))?;
    if zip.has_duplicate_names() {
        return Err("no sound zip file: it has two entries of one name".into());
    }
    let mut unpacked = 0_u64;
    for index in 0..zip.len() {
        unpacked = unpacked.saturating_add(zip.by_index_raw(index)?.size());
    }
    if unpacked > most {
        return Err(format!(
            "it would unpack to {unpacked} bytes, more than {MOST_PER_BYTE} times its size"
        )
        .into());
    }
    let is_torch_script = names(&zip)?.iter().any(|name| is_at_root(name, "constants.pkl"));
    Ok(Archive { zip, is_torch_script })
}

impl Archive {
    /// The bytes of an entry.
    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // `checked` has limited the unpacked size.
        self.zip.by_name(name).and_then(|mut entry| Ok(entry.read_to_end(&mut bytes)?))?;
        Ok(bytes)
    }

    pub(super) fn names(&self) -> Result<Vec<String>> {
        names(&self.zip)
    }
}

fn names(zip: &ZipArchive<BufReader<File>>) -> Result<Vec<String>> {
    zip.file_names().map(|name| Ok(name?.into_owned())).collect()
}

/// Whether `name` is `entry` inside the root folder that PyTorch adds.
pub(super) fn is_at_root(name: &str, entry: &str) -> bool {
    name.split_once('/').map_or(name, |(_, rest)| rest) == entry
}
