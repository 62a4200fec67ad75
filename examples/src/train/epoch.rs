//! The steps of one epoch.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use slim_runtime::Prunable;
use tch::nn::ModuleT;
use tch::{Device, Kind, Reduction, Tensor};

use super::evaluate::{Score, correct, evaluate_until, loss, percent};
use super::progress::{Progress, Size};
use super::sgd::Sgd;
use super::{Output, Recipe};
use crate::data::{Batch, DataSet};
use crate::network::Net;

const DIVERGED: &str =
    "training has diverged; take a lower learning rate (what was saved before is still there)";

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

/// Where training stands. Epochs and steps count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The epoch under way.
    pub(super) epoch: usize,
    /// How many of its steps are done.
    pub(super) step: usize,
    /// What they summed up to.
    pub(super) sums: Sums,
}

impl Place {
    /// Before the first step of an epoch.
    pub(super) fn at(epoch: usize) -> Self {
        Self { epoch, step: 0, sums: Sums::default() }
    }

    /// # Errors
    /// A place that training of this size does not come to, as a file may say.
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

/// What an epoch is trained with.
pub(super) struct Trainer<'t> {
    pub(super) net: &'t Net,
    pub(super) data: &'t DataSet,
    pub(super) recipe: &'t Recipe,
    pub(super) output: &'t Output,
}

impl Trainer<'_> {
    /// What is left of an epoch, and then its score. `None` where someone has asked for the end,
    /// after some step.
    ///
    /// # Errors
    /// A loss that is no number, a damaged image, libtorch's.
    pub(super) fn epoch(
        &self,
        sgd: &mut Sgd,
        place: &mut Place,
        progress: &Progress,
    ) -> Result<Option<Score>> {
        let asked = || self.output.interrupt.asked();
        if !asked() {
            self.steps(sgd, place, progress)?;
        }
        if asked() {
            return Ok(None);
        }
        let score =
            evaluate_until(self.net, &*self.data.test, self.recipe.test_batch_size, &asked)?;
        if let Some(score) = &score {
            ensure!(
                score.loss.is_finite(),
                "the loss of the test images is {} after epoch {}: {DIVERGED}",
                score.loss,
                place.epoch
            );
        }
        Ok(score)
    }

    fn steps(&self, sgd: &mut Sgd, place: &mut Place, progress: &Progress) -> Result<()> {
        let begun = Instant::now();
        let before = place.sums.seconds;
        let mut waiting = Waiting::default();
        let batches = self.data.train.shuffled(
            self.recipe.batch_size,
            self.recipe.epoch_seed(place.epoch),
            place.step,
        );
        for batch in batches {
            let batch = batch?;
            // What is on the CPU costs nothing to read.
            let interval = if batch.images.device() == Device::Cpu {
                1
            } else {
                self.output.log_interval.max(1)
            };
            waiting.0.push(self.step(batch, sgd, place)?);
            let loss =
                if place.step.is_multiple_of(interval) { waiting.fetch(place)? } else { None };
            place.sums.seconds = before + begun.elapsed().as_secs_f64();
            progress.step(place, loss);
            place.step += 1;
            if self.output.interrupt.asked() {
                break;
            }
        }
        waiting.fetch(place)?;
        place.sums.seconds = before + begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// A step. What it returns is still on the device.
    fn step(&self, Batch { images, labels }: Batch, sgd: &mut Sgd, place: &Place) -> Result<Step> {
        let recipe = self.recipe;
        tch::manual_seed(recipe.step_seed(place.epoch, place.step));
        let outputs = self.net.forward_t(&images, true);
        let loss = loss(&outputs, &labels, Reduction::Mean)?;
        sgd.zero_grad()?;
        loss.f_backward()?;
        if recipe.sparsity > 0. {
            self.net.add_l1_subgradient(recipe.sparsity)?;
        }
        sgd.step(recipe.rate(place.epoch))?;
        let values = [
            loss.f_detach()?.f_to_kind(Kind::Double)?,
            correct(&outputs, &labels)?.f_to_kind(Kind::Double)?,
        ];
        Ok(Step { number: place.step, values, images: labels.numel() })
    }
}

/// What a step gave: mean loss and number of images that are right, on the device.
struct Step {
    number: usize,
    values: [Tensor; 2],
    images: usize,
}

/// Steps whose values have not been fetched: to fetch those of each step would make it wait for the
/// device.
#[derive(Default)]
struct Waiting(Vec<Step>);

impl Waiting {
    /// Adds what is waiting to the sums, step by step, so that they do not depend on when this is
    /// done. Returned is the last loss.
    fn fetch(&mut self, place: &mut Place) -> Result<Option<f64>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let values: Vec<_> = self.0.iter().flat_map(|step| &step.values).collect();
        let values = Vec::<f64>::try_from(&Tensor::f_stack(&values, 0)?)?;
        let mut last = None;
        for (step, values) in self.0.drain(..).zip(values.chunks(2)) {
            let &[loss, correct] = values else { continue };
            ensure!(
                loss.is_finite(),
                "the loss is {loss} at epoch {}, step {}: {DIVERGED}",
                place.epoch,
                step.number
            );
            place.sums.loss += loss * step.images as f64;
            place.sums.correct += correct as usize;
            place.sums.images += step.images;
            last = Some(loss);
        }
        Ok(last)
    }
}
