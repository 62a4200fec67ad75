//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// More links than this in a row are a circle.
const MOST_LINKS: usize = 40;

/// Writes a file: a temporary one in the same folder, `.slim-*.tmp`, which is flushed to the disk
/// and then takes the name.
///
/// A crash or an error leaves what was there before. A link is followed, permissions are kept; a
/// new file has those of any other. Where the process is killed the temporary file stays behind.
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

/// What is to become a file, as the temporary one that [`write`] speaks of. Dropped before it is
/// published, it is gone.
pub(crate) struct Draft {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let path = followed(path)?;
        let permissions = match fs::metadata(&path) {
            // Renaming asks for a writable folder alone.
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

        // First, so that nobody can read what is written who could not read what was there.
        if let Some(permissions) = permissions {
            temporary.as_file().set_permissions(permissions)?;
        }
        Ok(Draft { temporary, path })
    }

    /// The temporary file.
    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Where it is, for what only writes to a path.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives it the name.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(folder(&self.path));
        Ok(())
    }
}

/// The file behind a symbolic link, be it there yet or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            // No link.
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

/// Makes the new name outlast a loss of power. The file is whole under either name, so where
/// folders cannot be synced nothing has failed.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}
