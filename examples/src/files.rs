//! Files that a program writes: a folder that is found sound before any work, and several files
//! that appear together.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use slim_runtime::{Error, export};
use tch::nn::ModuleT;
use tch::{Kind, Tensor};
use tempfile::TempDir;

use crate::model::Model;

/// A folder that is there and can be written to, since that is found out before any work.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, unless it is there.
    ///
    /// # Errors
    /// It cannot be made, or nothing can be written into it.
    pub fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        tempfile::tempfile_in(path)
            .with_context(|| format!("cannot write into the folder {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Files that are to be in it together.
    ///
    /// # Errors
    /// Nothing can be written into it.
    pub fn draft(&self) -> Result<Draft<'_>> {
        let beside = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").tempdir_in(&self.0);
        let beside =
            beside.with_context(|| format!("cannot write into the folder {}", self.0.display()))?;
        Ok(Draft { folder: self, beside, names: Vec::new() })
    }

    /// # Errors
    /// There is something that is not to be replaced.
    fn check_free(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::metadata(&path) {
            Ok(there) => {
                ensure!(
                    there.is_file(),
                    "cannot write {}: there is something that is no file",
                    path.display()
                );
                // Renaming asks for a writable folder alone.
                ensure!(
                    !there.permissions().readonly(),
                    "cannot write {}: it is read-only",
                    path.display()
                );
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

/// Files of a folder that are written beside it first, into `.slim-*.tmp` in it, so that those of
/// an earlier run are replaced by all of them or by none.
///
/// Where the process is killed, what is beside stays behind.
#[derive(Debug)]
#[must_use = "the files are gone before `publish`"]
pub struct Draft<'f> {
    folder: &'f Folder,
    beside: TempDir,
    names: Vec<&'static str>,
}

impl Draft<'_> {
    /// Adds a file of text.
    ///
    /// # Errors
    /// The disk is full.
    pub fn text(&mut self, name: &'static str, text: &str) -> Result<()> {
        self.add(name, |path| {
            let mut file = File::create_new(path)?;
            file.write_all(text.as_bytes())?;
            Ok(file.sync_all()?)
        })
    }

    /// Adds a file of a network.
    ///
    /// # Errors
    /// The disk is full.
    pub fn network(&mut self, name: &'static str, model: &Model) -> Result<()> {
        self.add(name, |path| {
            model.writer()?.write(path).map_err(|error| match error {
                // That of `add` names the file as it is to be called.
                Error::Io { cause, .. } => cause.into(),
                other => other.into(),
            })
        })
    }

    /// Adds a network as TorchScript.
    ///
    /// # Errors
    /// It cannot be traced, or the disk is full.
    pub fn torch_script(&mut self, name: &'static str, model: &Model) -> Result<()> {
        let [channels, height, width] = model.spec.image();
        let sample =
            Tensor::f_rand([1, channels, height, width], (Kind::Float, model.vs.device()))?;
        self.add(name, |path| {
            export::torch_script(path, &model.net, &sample, |net, images| {
                net.forward_t(images, false)
            })
            .map(drop)
            .map_err(|error| {
                match error {
                    // That of `add` names the file as it is to be called.
                    Error::Io { cause, .. } => cause.into(),
                    Error::Export { reason, .. } => anyhow!(reason),
                    other => other.into(),
                }
            })
        })
    }

    fn add(&mut self, name: &'static str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        write(&self.beside.path().join(name))
            .with_context(|| format!("cannot write {}", self.folder.file(name).display()))?;
        self.names.push(name);
        Ok(())
    }

    /// Gives the files their names, in the order in which they were added.
    ///
    /// # Errors
    /// Something of these names is no file, or is read-only: nothing is replaced then. The disk's.
    pub fn publish(self) -> Result<()> {
        self.names.iter().try_for_each(|name| self.folder.check_free(name))?;
        for name in &self.names {
            let path = self.folder.file(name);
            fs::rename(self.beside.path().join(name), &path)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        // The names outlast a loss of power. Where folders cannot be synced, nothing has failed.
        let _ = File::open(&self.folder.0).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Whether two paths lead to one file that is there, by whatever links.
pub fn is_same(first: &Path, second: &Path) -> bool {
    let real = |path| fs::canonicalize(path).ok();
    real(first).is_some_and(|first| Some(first) == real(second))
}
