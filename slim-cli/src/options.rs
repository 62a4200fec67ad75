//! Options that several commands share: the network, and the data set.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use slim_runtime::Cfg;
use tch::Device;

use crate::data::{self, DataSet, Name};
use crate::files::Form;
use crate::model::{Model, Wanted};
use crate::network::{Arch, Spec};

/// The options are incomplete or conflict. Programs exit with code 2, as for clap's errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Which network.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Its name in the reference or in torchvision [default: vgg; of a file, what the file says]
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// How deep, for vgg, preresnet and densenet [default: 19, 164, 40]
    #[arg(long)]
    pub depth: Option<u32>,
    /// Widths of a vgg that are not those of its depth, as prune prints them: "[64, 'M', 128]"
    #[arg(long)]
    pub cfg: Option<Cfg>,
}

/// Where a data set is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Images to train and test with [default: those that the network in a file was trained on]
    #[arg(long, value_enum)]
    pub dataset: Option<Name>,
    /// Folder of the data set
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
}

/// In which forms to write a network for serving.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Files")]
pub struct FormOptions {
    /// Write a .pt: the network as TorchScript, which runs without its definition (torch.jit.load)
    #[arg(long)]
    pub torch_script: bool,
    /// Write an .onnx: the network as ONNX, for ONNX Runtime, OpenVINO and others
    #[arg(long)]
    pub onnx: bool,
}

impl FormOptions {
    /// The forms that are asked for.
    pub fn chosen(&self) -> Vec<Form> {
        let forms = [(self.torch_script, Form::TorchScript), (self.onnx, Form::Onnx)];
        forms.into_iter().filter_map(|(chosen, form)| chosen.then_some(form)).collect()
    }
}

impl NetworkOptions {
    /// The network that a file has to hold.
    pub fn wanted(&self) -> Wanted {
        Wanted { arch: self.arch, depth: self.depth, cfg: self.cfg.clone() }
    }

    /// A dense network with initial weights, drawn with `seed`.
    ///
    /// # Errors
    /// A network that cannot be built.
    pub fn fresh(&self, classes: i64, seed: u64, device: Device) -> Result<Model> {
        tch::manual_seed(seed as i64);
        Model::new(
            Spec::new(self.arch.unwrap_or(Arch::Vgg), self.depth, self.cfg.clone(), classes)?,
            device,
        )
    }
}

impl DataOptions {
    /// The data set to use; `noted` is the one that a file names.
    ///
    /// # Errors
    /// [`Usage`] if neither the options nor the file name one; [`Missing`](data::Missing) if its
    /// files are missing, which is checked before any work.
    pub fn name(&self, noted: Option<Name>) -> Result<Name> {
        let name = self.dataset.or(noted).ok_or_else(|| {
            Usage("which data set? say --dataset; digits is always there".to_owned())
        })?;
        name.check(&self.data_dir)?;
        Ok(name)
    }

    /// Loads the data set.
    ///
    /// # Errors
    /// Errors of [`data::load`].
    pub fn load(&self, name: Name, device: Device) -> Result<DataSet> {
        data::load(name, &self.data_dir, device)
    }
}
