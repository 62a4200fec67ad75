//! Output files: a folder that is checked before any work, and several files that are published
//! together.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use slim_runtime::Error;
use slim_runtime::error::{FileError, LibtorchError};
use slim_runtime::export::{self, Onnx, OnnxExport};
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
    /// For ONNX Runtime, OpenVINO and others.
    Onnx,
}

impl Form {
    /// Name of the file of a network that is called `stem`.
    pub fn file(self, stem: &str) -> String {
        let ending = match self {
            Form::TorchScript => "pt",
            Form::Onnx => "onnx",
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
        Ok(Draft { folder: self, beside, names: Vec::new(), removed_first: Vec::new() })
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
    /// Files that are removed before the others are renamed.
    removed_first: Vec<String>,
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
        match form {
            Form::TorchScript => self.add(name, |path| torch_script(path, model).map_err(named)),
            Form::Onnx => self.onnx(name, model, OnnxExport::new()).map(drop),
        }
    }

    /// Adds a network as ONNX.
    ///
    /// # Errors
    /// The network does not have this form, or the disk is full.
    pub fn onnx(&mut self, name: &str, model: &Model, mut export: OnnxExport) -> Result<Onnx> {
        export = export.metadata("network", model.spec.to_string());
        if let Some(dataset) = model.dataset {
            export = export.metadata("dataset", dataset.to_string());
        }
        if let Some(slimmed) = &model.slimmed {
            export = export.slimmed(slimmed);
        }
        let mut written = None;
        self.add(name, |path| {
            let image = model.spec.image();
            written = Some(export.write(path, &model.net, &[&image]).map_err(named)?);
            Ok(())
        })?;
        let written = written.context("nothing was written")?;
        if written.data.is_some() {
            self.add_data_of(name);
        }
        Ok(written)
    }

    /// Adds `name.data`, which was written together with the file `name` that reads it.
    fn add_data_of(&mut self, name: &str) {
        let place = self.names.iter().position(|known| known == name);
        self.names.insert(place.unwrap_or(self.names.len()), format!("{name}.data"));
        // An earlier file of this name must not read the new data.
        self.removed_first.push(name.to_owned());
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
        for name in &self.removed_first {
            let path = self.folder.file(name);
            if path.exists() {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
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

fn torch_script(path: &Path, model: &Model) -> slim_runtime::Result<()> {
    let [channels, height, width] = model.spec.image();
    let options = (Kind::Float, model.vs.device());
    let sample = Tensor::f_rand([1, channels, height, width], options).map_err(|cause| {
        Error::Torch { context: "the sample".to_owned(), cause: LibtorchError(cause) }
    })?;
    let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);
    export::torch_script(path, &model.net, &sample, forward).map(drop)
}

/// The error without the name of the file, which is not the final one; `add` adds that.
fn named(error: Error) -> anyhow::Error {
    match error {
        Error::Io { cause, .. } => cause.into(),
        Error::File(FileError::Export { reason, .. }) => anyhow!(reason),
        other => other.into(),
    }
}

/// Whether two paths lead to the same existing file, through any links.
pub fn is_same(first: &Path, second: &Path) -> bool {
    let real = |path| fs::canonicalize(path).ok();
    real(first).is_some_and(|first| Some(first) == real(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes a file `net.onnx` and its data, all with these contents.
    fn publish(path: &Path, contents: &str) -> Result<()> {
        let folder = Folder::new(path)?;
        let mut draft = folder.draft()?;
        draft.text("net.txt", contents)?;
        draft.add("net.onnx", |path| {
            fs::write(path, contents)?;
            Ok(fs::write(path.with_extension("onnx.data"), contents)?)
        })?;
        draft.add_data_of("net.onnx");
        assert_eq!(draft.names, ["net.txt", "net.onnx.data", "net.onnx"]);
        draft.publish()
    }

    #[test]
    fn a_file_and_its_data_are_replaced_together_or_not_at_all() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        let read = |name: &str| fs::read_to_string(folder.join(name));
        for contents in ["first", "second"] {
            publish(folder, contents)?;
            assert_eq!(
                (read("net.onnx")?, read("net.onnx.data")?),
                (contents.into(), contents.into())
            );
        }
        fs::remove_file(folder.join("net.onnx.data"))?;
        fs::create_dir(folder.join("net.onnx.data"))?;
        assert!(publish(folder, "third").is_err());
        assert_eq!((read("net.onnx")?, read("net.txt")?), ("second".into(), "second".into()));
        assert_eq!(fs::read_dir(folder)?.count(), 3);
        Ok(())
    }
}
