//! Training with channel sparsity and fine-tuning, as the reference does them: SGD with momentum,
//! two steps of the learning rate, `γ.grad += s · sign(γ)`.
//!
//! [`train`] is the training loop. It writes three files if it is given a folder:
//!
//! | file | |
//! | --- | --- |
//! | `checkpoint.safetensors` | after each epoch, and when training is interrupted: network, momentum, place in training. [`Resume::read`] reads all of it, [`Model::read`] only the network |
//! | `model_best.safetensors` | the network alone, after the epoch with the best test accuracy |
//! | `metrics.jsonl` | a [`Record`] per epoch |
//!
//! [`train_among`] trains in several processes, each of which has its part of each batch.
//!
//! A run that was killed or interrupted and resumes from its checkpoint ends with the weights of an
//! uninterrupted run. Shuffling, augmentation and dropout draw by the seed, the epoch and the step,
//! and do not depend on earlier draws (libtorch's seed is set before each step). The weights are
//! bit-identical where libtorch's sums do not depend on threads: on the CPU with one thread.
//!
//! With [`Recipe::gradual`] or [`Recipe::growing`], the network is pruned while it is trained, and
//! its channels are removed after the steps of the last epoch, before the test. Then both files
//! hold the slimmed network, and `model_best.safetensors` is written for slimmed networks alone.
//! With [`Recipe::teacher`], it learns the outputs of another network, too.

mod checkpoint;
mod epoch;
mod evaluate;
mod folder;
mod handover;
mod health;
mod interrupt;
mod metrics;
mod options;
mod progress;
mod pruning;
mod recipe;
mod sgd;
mod teacher;
#[cfg(test)]
mod tests;
mod updates;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slim_distributed::Distributed;
use slim_runtime::{Plan, Warning};

use crate::data::DataSet;
use crate::files::is_same;
use crate::model::Model;
use checkpoint::{BEST, Files, State};
pub use checkpoint::{CHECKPOINT, Resume};
use epoch::{Progress, Trainer};
pub(crate) use evaluate::loss;
pub use evaluate::{Score, evaluate};
pub use folder::FileOptions;
pub use handover::hand_over;
pub use health::{GammaStats, Gap};
pub(crate) use interrupt::INTERRUPTED;
pub use interrupt::{Interrupt, Interrupted};
pub use metrics::{Record, read_metrics};
pub use options::{DistillationOptions, PruningOptions, RecipeOptions};
use progress::{ProgressDisplay, Size};
use pruning::Pruning;
pub use recipe::{PenaltyName, Recipe};
use teacher::Teacher;
use updates::Updates;

/// Files and display of training, and requests to end it. These options do not change the weights.
#[derive(Debug, Clone)]
pub struct Output {
    /// Folder for the files, which replace those of an earlier run. `None` writes no files.
    pub folder: Option<PathBuf>,
    /// Prints no lines. The progress bar is still shown if standard error is a terminal.
    pub quiet: bool,
    /// Steps between two lines, and between fetching losses from a GPU.
    pub log_interval: usize,
    /// The ratio at which the network will be pruned, in [0, 1). Training watches γ for a gap
    /// there.
    pub percent: Option<f64>,
    /// Request to end training.
    pub interrupt: Interrupt,
    /// The job that trains, as [`Launch::job`](slim_distributed::Launch::job) names it. Its
    /// processes go on from its checkpoint when they are started again: [`FileOptions::of_job`].
    pub job: Option<String>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            folder: None,
            quiet: false,
            log_interval: 100,
            percent: None,
            interrupt: Interrupt::default(),
            job: None,
        }
    }
}

/// Result of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Score of the network on the test images.
    pub score: Score,
    /// The best accuracy after an epoch, in percent.
    pub best: f64,
    /// Number of epochs that were trained here; fewer than the recipe's if training resumed from a
    /// file.
    pub epochs: usize,
    /// Duration, including testing and writing.
    pub time: Duration,
    /// Warnings about pruning at [`Output::percent`].
    pub warnings: Vec<Warning>,
}

/// Trains a network, from its current weights or from the state in a checkpoint.
///
/// With `resume`, the recipe must be the checkpoint's, except for the number of epochs and the
/// batch size of test passes.
///
/// # Errors
/// [`Interrupted`], after everything is written; a recipe, a data set or a file that does not fit;
/// a loss that is not finite; a damaged image; errors of the disk and of libtorch. Files that were
/// written before stay as they are.
pub fn train(
    model: &mut Model,
    data: &DataSet,
    recipe: &Recipe,
    output: &Output,
    resume: Option<Resume>,
) -> Result<Outcome> {
    let alone = Distributed::alone(model.vs.device());
    train_among(&alone, model, data, recipe, output, resume)
}

/// Like [`train`], as one of several processes that have the same network, data, recipe and state.
///
/// Each step trains on the same batch as [`train`] does, of which each process has its part, with
/// batch norms over the whole batch. So the weights are the same, but for rounding and for dropout.
/// [`hand_over`] gives all processes a network that one has read. Collective.
///
/// Rank 0 alone writes the files of [`Output::folder`], and prints. An [`Interrupt`] in any process
/// ends all of them.
///
/// # Errors
/// Those of [`train`], and a process that does not answer.
pub fn train_among(
    dist: &Distributed,
    model: &mut Model,
    data: &DataSet,
    recipe: &Recipe,
    output: &Output,
    resume: Option<Resume>,
) -> Result<Outcome> {
    check(model, data, recipe, output)?;
    if let Some(resume) = &resume {
        resume.state.recipe.check_goes_on_by(recipe)?;
    }
    let begun = Instant::now();
    let size = Size::new(data, recipe);
    let teacher = Teacher::read(dist, recipe, data)?;
    let pruning = Pruning::new(dist, model, recipe, size.steps, resume.as_ref())?;
    let growing = pruning.as_ref().and_then(Pruning::growing);
    let mut updates = Updates::new(dist, model, recipe, size.steps, growing)?;
    let mut state = start(&size, recipe, &mut updates, teacher.as_ref(), growing, resume)?;
    let first = state.progress.epoch;
    ensure!(
        pruning.is_none() || first < recipe.epochs,
        "the {first} epochs are done, and the channels that --gradual or --growing removes are not cut out yet, since that comes after the last step: give more --epochs"
    );
    let mut files = if dist.is_main() { Files::open(output, first)? } else { None };
    let display = ProgressDisplay::new(size, &state.progress, output, dist.is_main());
    let percent = output.percent.filter(|_| !recipe.prunes());

    let trainer = Trainer { dist, data, recipe, output, size, teacher, pruning };
    let mut last = None;
    while state.progress.epoch < recipe.epochs {
        let scored = trainer.epoch(model, &mut updates, &mut state, &display)?;
        let Some(score) = scored else {
            let checkpoint = files
                .map(|files| files.write_checkpoint(model, &state, &updates.sgd))
                .transpose()?;
            return Err(Interrupted {
                epoch: state.progress.epoch,
                step: state.progress.step,
                steps: size.steps,
                checkpoint,
            }
            .into());
        };
        let (health, warnings) = health::health(&model.net, percent)?;
        display.score(&score, health::has_gap(health.as_ref(), &warnings));
        let record = record(recipe, &state.progress, &score, health);
        // A network that is to be cut is not the one that training is for.
        let counts = trainer.pruning.is_none() || state.cut;
        let is_best = counts && state.best.is_none_or(|best| score.accuracy() > best);
        if is_best {
            state.best = Some(score.accuracy());
        }
        state.progress = Progress::at(state.progress.epoch + 1);
        if let Some(files) = &mut files {
            files.write(model, &state, &updates.sgd, &record, is_best)?;
        }
        last = Some((score, warnings));
    }

    let (score, warnings) = match last {
        Some(last) => last,
        // All epochs were done before.
        None => (
            trainer.test(&model.net, &|| false)?.context("nothing ends this test")?,
            health::health(&model.net, percent)?.1,
        ),
    };
    let best = state.best.unwrap_or_else(|| score.accuracy());
    Ok(Outcome { score, best, epochs: recipe.epochs - first, time: begun.elapsed(), warnings })
}

/// Checks all inputs, before anything is written.
///
/// # Errors
/// A recipe, a data set or a ratio that training cannot use.
fn check(model: &Model, data: &DataSet, recipe: &Recipe, output: &Output) -> Result<()> {
    recipe.check()?;
    data.ensure_fits(&model.spec)?;
    ensure!(
        !data.train.is_empty() && !data.test.is_empty(),
        "the data set has no images for training or none for testing"
    );
    for file in [CHECKPOINT, BEST] {
        let written = output.folder.as_ref().map(|folder| folder.join(file));
        ensure!(
            !written.iter().zip(&recipe.teacher).any(|(file, teacher)| is_same(file, teacher)),
            "training would overwrite the teacher, {file} in the folder that it saves into: save into another folder (--save), or name a copy (--teacher)"
        );
    }
    if let Some(percent) = output.percent {
        ensure!(
            (0.0..1.0).contains(&percent),
            slim_runtime::Error::Argument(slim_runtime::error::ArgumentError::Ratio(percent))
        );
    }
    Ok(())
}

fn start(
    size: &Size,
    recipe: &Recipe,
    updates: &mut Updates<'_>,
    teacher: Option<&Teacher>,
    growing: Option<&Plan>,
    resume: Option<Resume>,
) -> Result<State> {
    let images = size.images;
    let Some(Resume { state, momentum }) = resume else {
        return Ok(State {
            recipe: recipe.clone(),
            progress: Progress::at(recipe.start_epoch),
            best: None,
            images,
            cut: false,
            growing: growing.cloned(),
            teacher: teacher.map(|teacher| teacher.fingerprint.clone()),
        });
    };
    teacher::check_same(state.teacher.as_deref(), teacher, recipe.teacher.as_deref())?;
    ensure!(
        state.images == images,
        "the checkpoint is of training on {} images, and the data set has {images}",
        state.images
    );
    state.progress.check(size)?;
    updates.sgd.set_velocities(momentum)?;
    Ok(State { recipe: recipe.clone(), ..state })
}

fn record(
    recipe: &Recipe,
    progress: &Progress,
    score: &Score,
    gamma: Option<GammaStats>,
) -> Record {
    Record {
        epoch: progress.epoch,
        lr: recipe.rate(progress.epoch),
        train_loss: progress.sums.loss(),
        train_accuracy: progress.sums.accuracy(),
        test_loss: score.loss,
        test_accuracy: score.accuracy(),
        seconds: progress.sums.seconds,
        images_per_second: progress.sums.images_per_second(),
        gamma,
    }
}
