//! Atomic file writes: a file appears complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A chain of more symbolic links than this is taken for a cycle.
const MOST_LINKS: usize = 40;

/// Writes a file atomically: writes a temporary file `.slim-*.tmp` in the same folder, flushes it
/// to the disk and renames it.
///
/// After a crash or an error the previous file is still there. A symbolic link is followed, and the
/// permissions of an existing file are kept; a new file gets the default permissions. If the
/// process is killed, the temporary file remains.
pub(crate) fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut draft = Draft::new(path)?;
    let mut buffer = BufWriter::new(draft.temporary.as_file_mut());
    content(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    draft.publish()
}

/// The temporary file of [`write`]. It is deleted if it is dropped before
/// [`publish`](Self::publish).
pub(crate) struct Draft {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let path = followed(path)?;
        let permissions = match fs::metadata(&path) {
            // Renaming needs only a writable folder, so a read-only file has to be refused here.
            Ok(there) if there.permissions().readonly() => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
            }
            Ok(there) if !there.is_file() => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "there is something that is no file",
                ));
            }
            Ok(there) => Some(there.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let temporary = tempfile::Builder::new()
            .prefix(".slim-")
            .suffix(".tmp")
            .make_in(folder(&path), create)?;

        // Set permissions before writing, so that access is never widened.
        if let Some(permissions) = permissions {
            temporary.as_file().set_permissions(permissions)?;
        }
        Ok(Draft { temporary, path })
    }

    /// The temporary file.
    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Path of the temporary file, for functions that write to a path.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Flushes the temporary file and renames it to the final path.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(folder(&self.path));
        Ok(())
    }
}

/// The path that symbolic links lead to, whether or not a file exists there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            // Not a symbolic link.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "its links run in a circle"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Flushes the folder, so that the rename survives a loss of power. Errors are ignored, since the
/// file is complete under either name.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}
