//! The zip archive that PyTorch and tch write, checked before its contents are used.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;

use super::problem::Result;

/// Largest ratio of unpacked size to file size. PyTorch does not compress, and weights hardly
/// shrink when compressed; a file far beyond this ratio would fill the memory.
pub(super) const MOST_PER_BYTE: u64 = 16;

/// Length of a block of a tar archive in bytes, and what of a header's block holds the size and the
/// type of an entry.
const TAR_BLOCK: u64 = 512;
const TAR_SIZE: std::ops::Range<usize> = 124..136;
const TAR_TYPE: usize = 156;

/// Checks a tar archive, PyTorch's format before 0.1.10: plain files and folders, whose sizes fit
/// the file. A sparse entry would unpack to any size, and an extension may change one.
///
/// # Errors
/// An entry of another type, or one that is larger than the rest of the file.
pub(super) fn check_tar(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut at = 0;
    while at + TAR_BLOCK <= length {
        let mut header = [0; TAR_BLOCK as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        if !matches!(header[TAR_TYPE], 0 | b'0' | b'5') {
            return Err("is a tar archive with entries that are no plain files; save it again with a later PyTorch".into());
        }
        let size = str::from_utf8(&header[TAR_SIZE])
            .ok()
            .map(|digits| digits.trim_matches(['\0', ' ']))
            .and_then(|digits| u64::from_str_radix(digits, 8).ok());
        let next = size.and_then(|size| {
            at.checked_add(TAR_BLOCK)?.checked_add(size.checked_next_multiple_of(TAR_BLOCK)?)
        });
        // The last block of the last entry may be cut off.
        at = next
            .filter(|&next| next < length.saturating_add(TAR_BLOCK))
            .ok_or("is no sound tar archive: an entry is larger than the file")?;
    }
    Ok(())
}

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
