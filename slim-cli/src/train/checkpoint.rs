//! Checkpoints of training: the network, the optimizer's momentum, and the place in training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use slim_runtime::checkpoint::File;
use slim_runtime::error::FileError;
use slim_runtime::weights::Format;
use slim_runtime::{Error, Plan, Target};
use tch::{Device, Tensor};

use super::epoch::Progress;
use super::metrics::{Metrics, Record};
use super::sgd::Sgd;
use super::{Output, Recipe};
use crate::model::{Model, Wanted};

/// Metadata key of a file's [`State`].
const TRAINING: &str = "training";
/// Metadata key of the job that wrote a checkpoint, where a launcher started it.
const JOB: &str = "job";
/// Prefix of the optimizer's tensors, which are not the network's.
const MOMENTUM: &str = "optimizer.momentum.";
/// The file that training resumes from.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The file of the best network.
pub(super) const BEST: &str = "model_best.safetensors";

/// State of training, without its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) recipe: Recipe,
    /// `place` in files, which older versions read.
    #[serde(rename = "place")]
    pub(super) progress: Progress,
    /// The best accuracy, in percent; `None` before the first epoch has ended.
    pub(super) best: Option<f64>,
    /// Number of training images. The progress is that of this number alone.
    pub(super) images: usize,
    /// Whether the channels that training prunes are removed. Checkpoints of older versions have
    /// none of the fields from here on.
    #[serde(default)]
    pub(super) cut: bool,
    /// The plan of growing regularisation, until its channels are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) growing: Option<Plan>,
    /// Fingerprint of the teacher's weights.
    #[serde(default)]
    pub(super) teacher: Option<String>,
}

impl State {
    /// Checks what is said about pruning while training.
    fn check(&self, model: &Model) -> Result<()> {
        let Self { recipe, cut, growing, .. } = self;
        let is_growing = recipe.growing > 0. && !cut;
        ensure!(growing.is_some() || !is_growing, "it lacks the plan of what --growing removes");
        ensure!(
            growing.is_none() || is_growing,
            "it has a plan, and --growing removes nothing more"
        );
        ensure!(
            !cut || model.slimmed.is_some(),
            "its channels are cut out, and the network is whole"
        );
        if let Some(plan) = growing {
            plan.regulariser(&model.net)?;
            ensure!(
                plan.slimming().target == Target::Ratio(recipe.growing),
                "its plan is for {}, and its recipe for ratio {}",
                plan.slimming().target,
                recipe.growing
            );
        }
        Ok(())
    }
}

/// Training that resumes from a file.
#[derive(Debug)]
pub struct Resume {
    pub(super) state: State,
    pub(super) momentum: BTreeMap<String, Tensor>,
}

impl Resume {
    /// Reads the network and the state of training from a checkpoint.
    ///
    /// # Errors
    /// Errors of [`Model::read`], and a file that is not a checkpoint of training, such as any file
    /// of another program.
    pub fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<(Model, Self)> {
        // Open the file once, so that network, momentum and progress are of one state of the file.
        let file = File::open(path).map_err(|error| match (error, Format::of(path)) {
            (Error::File(FileError::Format { file, .. }), Ok(format))
                if format != Format::Safetensors =>
            {
                let file = file.display();
                anyhow!("{file}: a file of PyTorch or tch holds no training state to resume: fine-tune its network (--refine)")
            }
            (other, _) => other.into(),
        })?;
        let Some(text) = file.metadata(TRAINING) else {
            bail!(
                "{} is a network without training state to resume: fine-tune it (--refine)",
                path.display()
            );
        };
        let state: State = serde_json::from_str(text)
            .with_context(|| format!("{}, {TRAINING}", path.display()))?;
        let model = Model::of(&file, path, wanted, device)?;
        State::check(&state, &model).with_context(|| {
            format!("{}: the checkpoint is not sound, so begin anew", path.display())
        })?;
        let tensors = file.tensors()?.into_iter();
        let momentum = tensors
            .filter_map(|(name, tensor)| Some((name.strip_prefix(MOMENTUM)?.to_owned(), tensor)))
            .collect();
        Ok((model, Self { state, momentum }))
    }

    /// Writes a file that [`read`](Self::read) reads.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(super) fn write(&self, model: &Model, path: &Path) -> Result<()> {
        let momentum = self.momentum.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write(model, &self.state, momentum, None, path)
    }

    /// The recipe of the training so far.
    pub fn recipe(&self) -> &Recipe {
        &self.state.recipe
    }

    /// The epoch to resume, and the number of its steps that are done; both from 0.
    pub fn progress(&self) -> (usize, usize) {
        (self.state.progress.epoch, self.state.progress.step)
    }
}

/// Writes a network with a state of training and the momentum of its variables.
fn write<'t>(
    model: &Model,
    state: &State,
    momentum: impl Iterator<Item = (&'t str, &'t Tensor)>,
    job: Option<&str>,
    path: &Path,
) -> Result<()> {
    let momentum =
        momentum.map(|(name, tensor)| (format!("{MOMENTUM}{name}"), tensor.shallow_clone()));
    let writer = model.writer()?.tensors(momentum);
    let writer = writer.metadata(TRAINING, serde_json::to_string(state)?);
    job.into_iter().fold(writer, |writer, job| writer.metadata(JOB, job)).write(path)?;
    Ok(())
}

/// The job that wrote a checkpoint; `None` if no launcher started it.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn job_of(path: &Path) -> Result<Option<String>> {
    Ok(File::open(path)?.metadata(JOB).map(str::to_owned))
}

/// Output files of training.
pub(super) struct Files {
    folder: PathBuf,
    job: Option<String>,
    metrics: Metrics,
}

impl Files {
    /// Opens the files, if an output folder is given. Records of epoch `first` and later epochs are
    /// removed.
    ///
    /// # Errors
    /// A folder that cannot be made, and errors of [`Metrics::open`].
    pub(super) fn open(output: &Output, first: usize) -> Result<Option<Self>> {
        let Some(folder) = output.folder.clone() else { return Ok(None) };
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let metrics = Metrics::open(folder.join("metrics.jsonl"), first)?;
        Ok(Some(Self { folder, job: output.job.clone(), metrics }))
    }

    /// Writes the results of an epoch.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(super) fn write(
        &mut self,
        model: &Model,
        state: &State,
        sgd: &Sgd,
        record: &Record,
        is_best: bool,
    ) -> Result<()> {
        // Write the checkpoint last. If the process is killed before that, the epoch is repeated,
        // and the other two files are written again.
        self.metrics.add(record)?;
        if is_best {
            model.writer()?.write(self.folder.join(BEST))?;
        }
        self.write_checkpoint(model, state, sgd).map(drop)
    }

    /// Writes the checkpoint that training resumes from.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(super) fn write_checkpoint(
        &self,
        model: &Model,
        state: &State,
        sgd: &Sgd,
    ) -> Result<PathBuf> {
        let file = self.folder.join(CHECKPOINT);
        write(model, state, sgd.velocities(), self.job.as_deref(), &file)?;
        Ok(file)
    }
}
