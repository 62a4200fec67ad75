//! Output files: a folder that is checked before any work, and several files that are published
//! together.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use slim_runtime::error::FileError;
use slim_runtime::{Error, export};
use tch::nn::ModuleT;
use tch::{Kind, Tensor};
use tempfile::TempDir;

use crate::model::Model;
use crate::network::Net;

/// A form in which a network runs without its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// libtorch's own, for C++, Python and Rust.
    TorchScript,
}

impl Form {
    /// Name of the file of a network that is called `stem`.
    pub fn file(self, stem: &str) -> String {
        let ending = match self {
            Form::TorchScript => "pt",
        };
        format!("{stem}.{ending}")
    }
}

/// A folder that exists and is writable. It is made before any work, so that errors come early.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if it does not exist, and checks that it is writable.
    ///
    /// # Errors
    /// The folder cannot be made, or is not writable.
    pub fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        tempfile::tempfile_in(path)
            .with_context(|| format!("cannot write into the folder {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Starts a set of files that are published together.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn draft(&self) -> Result<Draft<'_>> {
        let beside = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").tempdir_in(&self.0);
        let beside =
            beside.with_context(|| format!("cannot write into the folder {}", self.0.display()))?;
        Ok(Draft { folder: self, beside, names: Vec::new() })
    }

    /// Checks that a file `name` can be created or replaced.
    ///
    /// # Errors
    /// The path is not a regular file, or is read-only.
    fn check_free(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::metadata(&path) {
            Ok(there) => {
                ensure!(
                    there.is_file(),
                    "cannot write {}: there is something that is no file",
                    path.display()
                );
                // Renaming needs only a writable folder, and would replace a read-only file.
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

/// Files that are first written into `.slim-*.tmp` in their folder, so that a failure before
/// `publish` leaves the files of an earlier run unchanged.
///
/// If the process is killed, the temporary directory remains.
#[derive(Debug)]
#[must_use = "the files are gone before `publish`"]
pub struct Draft<'f> {
    folder: &'f Folder,
    beside: TempDir,
    names: Vec<String>,
}

impl Draft<'_> {
    /// Adds a text file.
    ///
    /// # Errors
    /// The disk is full.
    pub fn text(&mut self, name: &str, text: &str) -> Result<()> {
        self.add(name, |path| {
            let mut file = File::create_new(path)?;
            file.write_all(text.as_bytes())?;
            Ok(file.sync_all()?)
        })
    }

    /// Adds a network as safetensors.
    ///
    /// # Errors
    /// The disk is full.
    pub fn network(&mut self, name: &str, model: &Model) -> Result<()> {
        self.add(name, |path| {
            model.writer()?.write(path).map_err(|error| match error {
                // `add` adds the final name of the file to the error.
                Error::Io { cause, .. } => cause.into(),
                other => other.into(),
            })
        })
    }

    /// Adds a network in a form that runs without its definition.
    ///
    /// # Errors
    /// The network does not have this form, or the disk is full.
    pub fn export(&mut self, name: &str, form: Form, model: &Model) -> Result<()> {
        let [channels, height, width] = model.spec.image();
        let sample =
            Tensor::f_rand([1, channels, height, width], (Kind::Float, model.vs.device()))?;
        self.add(name, |path| {
            let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);
            let exported = match form {
                Form::TorchScript => {
                    export::torch_script(path, &model.net, &sample, forward).map(drop)
                }
            };
            exported.map_err(|error| {
                match error {
                    // `add` adds the final name of the file to the error.
                    Error::Io { cause, .. } => cause.into(),
                    Error::File(FileError::Export { reason, .. }) => anyhow!(reason),
                    other => other.into(),
                }
            })
        })
    }

    fn add(&mut self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        write(&self.beside.path().join(name))
            .with_context(|| format!("cannot write {}", self.folder.file(name).display()))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Renames the files to their final names, in the order in which they were added.
    ///
    /// # Errors
    /// A path of these names is not a regular file, or is read-only: nothing is replaced then.
    /// Errors of the disk.
    pub fn publish(self) -> Result<()> {
        self.names.iter().try_for_each(|name| self.folder.check_free(name))?;
        for name in &self.names {
            let path = self.folder.file(name);
            fs::rename(self.beside.path().join(name), &path)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Sync the folder, so that the names survive a power loss. Errors are ignored, since some
        // platforms cannot sync folders.
        let _ = File::open(&self.folder.0).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Whether two paths lead to the same existing file, through any links.
pub fn is_same(first: &Path, second: &Path) -> bool {
    let real = |path| fs::canonicalize(path).ok();
    real(first).is_some_and(|first| Some(first) == real(second))
}
