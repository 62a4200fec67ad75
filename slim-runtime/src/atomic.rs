//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// More links than this in a row are a circle.
const MOST_LINKS: usize = 40;

/// Writes a file: a temporary one in the same folder, `.slim-*.tmp`, which is flushed to the disk and then takes the name.
///
/// A crash or an error leaves what was there before. A link is followed, permissions are kept; a new file has those of any other. Where the process is killed
/// the temporary file stays behind.
pub(crate) fn write(path: &Path, content: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> io::Result<()> {
    let path = followed(path)?;
    let permissions = match fs::metadata(&path) {
        // Renaming asks for a writable folder alone.
        Ok(there) if there.permissions().readonly() => return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only")),
        Ok(there) if !there.is_file() => return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something that is no file")),
        Ok(there) => Some(there.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let folder = folder(&path);
    let create = |path: &Path| File::options().write(true).create_new(true).open(path);
    let mut temporary = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").make_in(folder, create)?;

    // First, so that nobody can read what is written who could not read what was there.
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(permissions)?;
    }

    let mut buffer = BufWriter::new(temporary.as_file_mut());
    content(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    temporary.as_file().sync_all()?;
    temporary.persist(&path).map_err(|error| error.error)?;
    sync_folder(folder);
    Ok(())
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

/// Makes the new name outlast a loss of power. The file is whole under either name, so where folders cannot be synced nothing has failed.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}
