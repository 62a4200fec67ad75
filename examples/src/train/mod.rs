//! Training with channel sparsity and fine-tuning, as the reference does them: SGD with momentum,
//! two steps of the learning rate, `γ.grad += s · sign(γ)`.
//!
//! [`train`] is the one loop. It writes three files into a folder, if it is given one:
//!
//! | file | |
//! | --- | --- |
//! | `checkpoint.safetensors` | after each epoch, and when training is interrupted: network, momentum, place. [`Resume::read`] reads it, and as a file of a network [`Model::read`] does |
//! | `model_best.safetensors` | the network alone, after the epoch that got the most test images right |
//! | `metrics.jsonl` | a [`Record`] an epoch |
//!
//! A run that was killed or interrupted, and goes on from its checkpoint, ends with the weights of
//! one that ran through: shuffles, augmentation and dropout draw by the seed, the epoch and the
//! step, and not by what was drawn before (libtorch's seed is set before each step). To the bit
//! that holds where libtorch's sums do not depend on threads: on the CPU with one thread.

mod checkpoint;
mod epoch;
mod evaluate;
mod folder;
mod health;
mod interrupt;
mod metrics;
mod options;
mod progress;
mod recipe;
mod sgd;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use slim_runtime::Warning;

use crate::data::DataSet;
use crate::model::Model;
pub use checkpoint::{CHECKPOINT, Resume};
use checkpoint::{Files, State};
use epoch::{Place, Trainer};
pub(crate) use evaluate::loss;
pub use evaluate::{Score, evaluate};
pub use folder::FileOptions;
pub use health::{GammaStats, Gap};
pub use interrupt::{Interrupt, Interrupted};
pub use metrics::{Record, read_metrics};
pub use options::{RecipeOptions, arguments};
use progress::{Progress, Size};
pub use recipe::Recipe;
use sgd::Sgd;

/// What is written and shown of training, and who may end it. Nothing of it changes the weights.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where the files go, in the place of those of an earlier run; none are written without.
    pub folder: Option<PathBuf>,
    /// No lines; the bar is there all the same where standard error is a terminal.
    pub quiet: bool,
    /// Steps between two lines. Losses are fetched from a GPU as often.
    pub log_interval: usize,
    /// The ratio at which the network is to be pruned, which γ are watched for; in [0, 1).
    pub percent: Option<f64>,
    /// Who may end it.
    pub interrupt: Interrupt,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            folder: None,
            quiet: false,
            log_interval: 100,
            percent: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// What training has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What the network gets right of the test images.
    pub score: Score,
    /// The best accuracy after an epoch, in percent.
    pub best: f64,
    /// How many epochs were trained here; fewer than the recipe's where training went on from a
    /// file.
    pub epochs: usize,
    /// How long it took, testing and writing included.
    pub time: Duration,
    /// What speaks against pruning at [`Output::percent`].
    pub warnings: Vec<Warning>,
}

/// Trains a network, from its weights as they are or from where a file left it.
///
/// With `resume`, the recipe is the file's, but for the number of epochs and the size of a batch
/// that tests.
///
/// # Errors
/// [`Interrupted`], once everything is written; a recipe, a data set or a file that does not fit; a
/// loss that is no number; a damaged image; the disk's; libtorch's. What was written before is then
/// still there.
pub fn train(
    model: &mut Model,
    data: &DataSet,
    recipe: &Recipe,
    output: &Output,
    resume: Option<Resume>,
) -> Result<Outcome> {
    check(model, data, recipe, output)?;
    let begun = Instant::now();
    let mut sgd = Sgd::new(&model.vs, recipe);
    let size = Size::new(data, recipe);
    let mut state = start(&size, recipe, &mut sgd, resume)?;
    let first = state.place.epoch;
    let mut files = Files::open(output, first)?;
    let progress = Progress::new(size, &state.place, output);

    let trainer = Trainer { net: &model.net, data, recipe, output };
    let mut last = None;
    while state.place.epoch < recipe.epochs {
        let Some(score) = trainer.epoch(&mut sgd, &mut state.place, &progress)? else {
            let checkpoint =
                files.map(|files| files.write_checkpoint(model, &state, &sgd)).transpose()?;
            return Err(Interrupted {
                epoch: state.place.epoch,
                step: state.place.step,
                steps: size.steps,
                checkpoint,
            }
            .into());
        };
        let (health, warnings) = health::health(&model.net, output.percent)?;
        progress.score(&score, health::has_gap(health.as_ref(), &warnings));
        let record = record(recipe, &state.place, &score, health);
        let is_best = state.best.is_none_or(|best| score.accuracy() > best);
        if is_best {
            state.best = Some(score.accuracy());
        }
        state.place = Place::at(state.place.epoch + 1);
        if let Some(files) = &mut files {
            files.write(model, &state, &sgd, &record, is_best)?;
        }
        last = Some((score, warnings));
    }

    let (score, warnings) = match last {
        Some(last) => last,
        // All was done before.
        None => (
            evaluate(&model.net, &*data.test, recipe.test_batch_size)?,
            health::health(&model.net, output.percent)?.1,
        ),
    };
    let best = state.best.unwrap_or_else(|| score.accuracy());
    Ok(Outcome { score, best, epochs: recipe.epochs - first, time: begun.elapsed(), warnings })
}

/// # Errors
/// What cannot be trained, before anything is written.
fn check(model: &Model, data: &DataSet, recipe: &Recipe, output: &Output) -> Result<()> {
    recipe.check()?;
    data.ensure_fits(&model.spec)?;
    ensure!(
        !data.train.is_empty() && !data.test.is_empty(),
        "the data set has no images for training or none for testing"
    );
    if let Some(percent) = output.percent {
        ensure!((0.0..1.0).contains(&percent), slim_runtime::Error::Ratio(percent));
    }
    Ok(())
}

fn start(size: &Size, recipe: &Recipe, sgd: &mut Sgd, resume: Option<Resume>) -> Result<State> {
    let images = size.images;
    let Some(Resume { state, momentum }) = resume else {
        return Ok(State {
            recipe: recipe.clone(),
            place: Place::at(recipe.start_epoch),
            best: None,
            images,
        });
    };
    state.recipe.check_goes_on_by(recipe)?;
    ensure!(
        state.images == images,
        "the checkpoint is of training on {} images, and the data set has {images}",
        state.images
    );
    state.place.check(size)?;
    sgd.set_velocities(momentum)?;
    Ok(State { recipe: recipe.clone(), ..state })
}

fn record(recipe: &Recipe, place: &Place, score: &Score, gamma: Option<GammaStats>) -> Record {
    Record {
        epoch: place.epoch,
        lr: recipe.rate(place.epoch),
        train_loss: place.sums.loss(),
        train_accuracy: place.sums.accuracy(),
        test_loss: score.loss,
        test_accuracy: score.accuracy(),
        seconds: place.sums.seconds,
        images_per_second: place.sums.images_per_second(),
        gamma,
    }
}
