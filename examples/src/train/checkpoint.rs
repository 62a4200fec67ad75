//! Training in a file: the network, the optimizer's momentum, and the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use slim_runtime::Error;
use slim_runtime::checkpoint::File;
use tch::{Device, Tensor};

use super::epoch::Place;
use super::metrics::{Metrics, Record};
use super::sgd::Sgd;
use super::{Output, Recipe};
use crate::model::{Model, Wanted};

/// The key of the metadata under which a file says its [`State`].
const TRAINING: &str = "training";
/// What the names of tensors begin with that are the optimizer's and not the network's.
const MOMENTUM: &str = "optimizer.momentum.";
/// The file that training goes on from.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The file of the best network.
pub(super) const BEST: &str = "model_best.safetensors";

/// All of training that is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) recipe: Recipe,
    pub(super) place: Place,
    /// The best accuracy, in percent; of no epoch at first.
    pub(super) best: Option<f64>,
    /// How many images the training data has: with others the place means nothing.
    pub(super) images: usize,
}

/// Training that goes on where a file left it.
#[derive(Debug)]
pub struct Resume {
    pub(super) state: State,
    pub(super) momentum: BTreeMap<String, Tensor>,
}

impl Resume {
    /// The network in a checkpoint, and where its training stands.
    ///
    /// # Errors
    /// Those of [`Model::read`], and a file that is no checkpoint of training, as no file of
    /// another program is.
    pub fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<(Model, Self)> {
        let named =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
        // Once, so that network, momentum and place are of one state of the file.
        let file = File::open(path).map_err(|error| match error {
            Error::Format { file, reason } if !named => {
                let file = file.display();
                anyhow!("{file}: {reason}; a file of PyTorch or tch has no training that could go on: fine-tune its network (--refine)")
            }
            other => other.into(),
        })?;
        let Some(text) = file.metadata(TRAINING) else {
            bail!(
                "{} is a network without training that could go on: fine-tune it (--refine)",
                path.display()
            );
        };
        let state = serde_json::from_str(text)
            .with_context(|| format!("{}, {TRAINING}", path.display()))?;
        let model = Model::of(&file, path, wanted, device)?;
        let tensors = file.tensors()?.into_iter();
        let momentum = tensors
            .filter_map(|(name, tensor)| Some((name.strip_prefix(MOMENTUM)?.to_owned(), tensor)))
            .collect();
        Ok((model, Self { state, momentum }))
    }

    /// By what it was trained.
    pub fn recipe(&self) -> &Recipe {
        &self.state.recipe
    }

    /// The epoch that it goes on with, and how many of its steps are done; both from 0.
    pub fn place(&self) -> (usize, usize) {
        (self.state.place.epoch, self.state.place.step)
    }
}

/// The files of training.
pub(super) struct Files {
    folder: PathBuf,
    metrics: Metrics,
}

impl Files {
    /// Opens the files, if any are wanted. What they say of epoch `first` and later ones is cut
    /// off.
    ///
    /// # Errors
    /// A folder that cannot be made, and those of [`Metrics::open`].
    pub(super) fn open(output: &Output, first: usize) -> Result<Option<Self>> {
        let Some(folder) = output.folder.clone() else { return Ok(None) };
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let metrics = Metrics::open(folder.join("metrics.jsonl"), first)?;
        Ok(Some(Self { folder, metrics }))
    }

    /// Writes what an epoch has come to.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn write(
        &mut self,
        model: &Model,
        state: &State,
        sgd: &Sgd,
        record: &Record,
        is_best: bool,
    ) -> Result<()> {
        // The checkpoint comes last. If the process is killed before it is there, the epoch comes
        // again, and with it the other two.
        self.metrics.add(record)?;
        if is_best {
            model.writer()?.write(self.folder.join(BEST))?;
        }
        self.write_checkpoint(model, state, sgd).map(drop)
    }

    /// Writes all that training goes on from.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn write_checkpoint(
        &self,
        model: &Model,
        state: &State,
        sgd: &Sgd,
    ) -> Result<PathBuf> {
        let momentum = sgd
            .velocities()
            .map(|(name, velocity)| (format!("{MOMENTUM}{name}"), velocity.shallow_clone()));
        let file = self.folder.join(CHECKPOINT);
        model
            .writer()?
            .tensors(momentum)
            .metadata(TRAINING, serde_json::to_string(state)?)
            .write(&file)?;
        Ok(file)
    }
}
