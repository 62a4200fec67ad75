//! The folder that a pruned network goes into.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use slim_runtime::Cfg;

/// A folder that is there and can be written to, since that is found out before any work.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, unless it is there.
    ///
    /// # Errors
    /// It cannot be made, or nothing can be written into it.
    pub fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        tempfile::tempfile_in(path).with_context(|| format!("cannot write into the folder {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes text into a file: beside the old one, synced, renamed, so that a whole one is there whatever happens.
    ///
    /// # Errors
    /// The disk is full, or the file is not to be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.file(name);
        let write = || {
            // With the permissions of any new file: a temporary one is nobody else's to read.
            let create = |path: &Path| File::options().write(true).create_new(true).open(path);
            let mut file = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").make_in(&self.0, create)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map(drop).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The text of `prune.txt` in the reference's exact form. `accuracy` is the share that the masked network gets right, before surgery.
///
/// ```
/// let cfg = slim_runtime::channels![49, 64, M];
/// assert_eq!(
///     slim_examples::prune::prune_txt(&cfg, 1234, Some(0.5)),
///     "Configuration: \n[49, 64, 'M']\nNumber of parameters: \n1234\nTest accuracy: \n0.5"
/// );
/// ```
pub fn prune_txt(cfg: &Cfg, parameters: i64, accuracy: Option<f64>) -> String {
    // As Python prints a float.
    let accuracy = accuracy.map_or_else(|| "not tested".to_owned(), |accuracy| format!("{accuracy:?}"));
    format!("Configuration: \n{cfg}\nNumber of parameters: \n{parameters}\nTest accuracy: \n{accuracy}")
}
