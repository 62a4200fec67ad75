//! The steps of one epoch.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use slim_distributed::{Distributed, Part};
use tch::nn::ModuleT;
use tch::{Device, Kind, Reduction, Tensor};

use super::checkpoint::State;
use super::evaluate::{Score, correct, evaluate_until, loss, percent, summed};
use super::progress::{ProgressDisplay, Size};
use super::pruning::Pruning;
use super::teacher::Teacher;
use super::updates::Updates;
use super::{Output, Recipe};
use crate::data::{Batch, DataSet};
use crate::model::Model;
use crate::network::Net;

const DIVERGED: &str = "training has diverged; take a lower learning rate, or a smaller factor of the penalty (what was saved before is still there)";

/// Sums over the images that an epoch has trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sums {
    loss: f64,
    correct: usize,
    pub(super) images: usize,
    pub(super) seconds: f64,
}

impl Sums {
    pub(super) fn loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    pub(super) fn accuracy(&self) -> f64 {
        percent(self.correct, self.images)
    }

    pub(super) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Progress in training. Epochs and steps count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// The current epoch.
    pub(super) epoch: usize,
    /// Number of its steps that are done.
    pub(super) step: usize,
    /// Sums over these steps.
    pub(super) sums: Sums,
}

impl Progress {
    /// The progress before the first step of an epoch.
    pub(super) fn at(epoch: usize) -> Self {
        Self { epoch, step: 0, sums: Sums::default() }
    }

    /// Checks that training can reach this progress, which may come from a file.
    ///
    /// # Errors
    /// Progress that training of this size cannot reach.
    pub(super) fn check(&self, size: &Size) -> Result<()> {
        let Self { epoch, step, sums } = self;
        let images = step.saturating_mul(size.batch).min(size.images);
        ensure!(
            *step <= size.steps && sums.images == images && sums.correct <= images,
            "the checkpoint is not sound: it says that {step} steps of epoch {epoch} are done on {} images, and an epoch has {} steps on {} images",
            sums.images,
            size.steps,
            size.images
        );
        let begun = if *step > 0 { format!(" and {step} steps") } else { String::new() };
        let is_wanted = *epoch < size.epochs || (*epoch == size.epochs && *step == 0);
        ensure!(
            is_wanted,
            "{epoch} epochs{begun} are done already, and not more than {} are wanted",
            size.epochs
        );
        Ok(())
    }
}

/// Everything that an epoch is trained with.
pub(super) struct Trainer<'t> {
    pub(super) dist: &'t Distributed,
    pub(super) data: &'t DataSet,
    pub(super) recipe: &'t Recipe,
    pub(super) output: &'t Output,
    pub(super) size: Size,
    pub(super) teacher: Option<Teacher>,
    pub(super) pruning: Option<Pruning>,
}

impl<'t> Trainer<'t> {
    /// Trains the rest of an epoch, then scores the network. `None` if the end of training was
    /// requested meanwhile. After the last epoch, the channels that training prunes are removed
    /// before the network is scored. Collective.
    ///
    /// # Errors
    /// A loss that is not finite, a damaged image, a process that does not answer, errors of
    /// libtorch.
    pub(super) fn epoch(
        &self,
        model: &mut Model,
        updates: &mut Updates<'t>,
        state: &mut State,
        display: &ProgressDisplay,
    ) -> Result<Option<Score>> {
        if !self.asked()? {
            let pruning = self.pruning.as_ref().filter(|_| !state.cut);
            self.steps(&mut model.net, updates, pruning, &mut state.progress, display)?;
        }
        if self.asked()? {
            return Ok(None);
        }
        let progress = &state.progress;
        let pruning = self.pruning.as_ref().filter(|_| !state.cut);
        if let Some(pruning) = pruning.filter(|_| progress.epoch + 1 == self.recipe.epochs) {
            pruning.cut(self.dist, model)?;
            *updates = Updates::new(self.dist, model, self.recipe, self.size.steps, None)?;
            state.growing = None;
            state.cut = true;
        }
        let score = self.test(&model.net, &|| self.output.interrupt.asked())?;
        if let Some(score) = &score {
            ensure!(
                score.loss.is_finite(),
                "the loss of the test images is {} after epoch {}: {DIVERGED}",
                score.loss,
                progress.epoch
            );
        }
        Ok(score)
    }

    /// Scores the network on the test images; `None` if `stop` returns true. Collective.
    ///
    /// # Errors
    /// Those of [`evaluate`](super::evaluate()), and a process that does not answer.
    pub(super) fn test(&self, net: &Net, stop: &dyn Fn() -> bool) -> Result<Option<Score>> {
        let batch = self.recipe.test_batch_size;
        evaluate_until(net, &*self.data.test, batch, self.dist, stop)
    }

    /// Whether the end of training was requested in some process. Collective.
    fn asked(&self) -> Result<bool> {
        let own = f64::from(self.output.interrupt.asked());
        Ok(summed(self.dist, &[own])? != [0.])
    }

    fn steps(
        &self,
        net: &mut Net,
        updates: &mut Updates<'_>,
        pruning: Option<&Pruning>,
        progress: &mut Progress,
        display: &ProgressDisplay,
    ) -> Result<()> {
        let begun = Instant::now();
        let before = progress.sums.seconds;
        let mut waiting = Waiting::default();
        let batches = self.data.train.own_shuffled(
            self.recipe.batch_size,
            self.recipe.epoch_seed(progress.epoch),
            progress.step,
            self.dist.share(),
        );
        for batch in batches {
            let batch = batch?;
            // Values on the CPU can be read without waiting for a device.
            let interval = if batch.images.device() == Device::Cpu {
                1
            } else {
                self.output.log_interval.max(1)
            };
            waiting.0.push(self.step(net, batch, updates, progress)?);
            let fetches = progress.step.is_multiple_of(interval);
            let loss = if fetches { waiting.fetch(self.dist, progress)? } else { None };
            if let Some(pruning) = pruning {
                pruning.step(net, self.done(progress) + 1)?;
            }
            progress.sums.seconds = before + begun.elapsed().as_secs_f64();
            display.step(progress, loss);
            progress.step += 1;
            // Other processes are asked only when all wait for each other anyway.
            if (fetches || self.dist.world_size() == 1) && self.asked()? {
                break;
            }
        }
        waiting.fetch(self.dist, progress)?;
        progress.sums.seconds = before + begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// The number of steps that are done, over all epochs.
    fn done(&self, progress: &Progress) -> u64 {
        progress.epoch.saturating_mul(self.size.steps).saturating_add(progress.step) as u64
    }

    /// Trains one step, with this process's part of the batch. Its results stay on the device.
    fn step(
        &self,
        net: &Net,
        batch: Batch,
        updates: &mut Updates<'_>,
        progress: &Progress,
    ) -> Result<Step> {
        let recipe = self.recipe;
        let before = progress.step.saturating_mul(recipe.batch_size);
        let whole = self.data.train.len().saturating_sub(before).min(recipe.batch_size);
        let Part { weight, .. } = self.dist.share().of(whole);
        tch::manual_seed(recipe.seed_of_rank(progress.epoch, progress.step, self.dist.rank()));
        let forward = || net.forward_t(&batch.images, true);
        let outputs = updates.parallel.forward_part(weight, forward)?;
        let loss = match &self.teacher {
            Some(teacher) => teacher.loss(&outputs, &batch)?,
            None => loss(&outputs, &batch.labels, Reduction::Mean)?,
        };
        let loss = loss.f_mul_scalar(weight)?;
        updates.sgd.zero_grad()?;
        updates.parallel.backward(&loss)?;
        updates.step(recipe.rate(progress.epoch), self.done(progress))?;
        // Of each of these, the sum over the processes is that of the whole batch.
        let counts = f64::from(weight > 0.);
        let values = [
            loss.f_detach()?.f_to_kind(Kind::Double)?.f_div_scalar(self.dist.world_size() as f64)?,
            correct(&outputs, &batch.labels)?.f_to_kind(Kind::Double)?.f_mul_scalar(counts)?,
        ];
        Ok(Step { number: progress.step, values, images: whole })
    }
}

/// Results of a step, on the device: what this process has of the mean loss and of the number of
/// correct images.
struct Step {
    number: usize,
    values: [Tensor; 2],
    /// Number of images of the whole batch.
    images: usize,
}

/// Steps whose results are not fetched yet. Fetching them after each step would wait for the
/// device.
#[derive(Default)]
struct Waiting(Vec<Step>);

impl Waiting {
    /// Adds the waiting results to the sums, step by step, so that the sums do not depend on when
    /// results are fetched. Returns the last loss. Collective.
    fn fetch(&mut self, dist: &Distributed, progress: &mut Progress) -> Result<Option<f64>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let values: Vec<_> = self.0.iter().flat_map(|step| &step.values).collect();
        let values = summed(dist, &Vec::<f64>::try_from(&Tensor::f_stack(&values, 0)?)?)?;
        let mut last = None;
        for (step, values) in self.0.drain(..).zip(values.chunks(2)) {
            let &[loss, correct] = values else { continue };
            ensure!(
                loss.is_finite(),
                "the loss is {loss} at epoch {}, step {}: {DIVERGED}",
                progress.epoch,
                step.number
            );
            progress.sums.loss += loss * step.images as f64;
            progress.sums.correct += correct as usize;
            progress.sums.images += step.images;
            last = Some(loss);
        }
        Ok(last)
    }
}
