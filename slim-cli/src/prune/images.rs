//! Training images, to correct networks on and for criteria.

use anyhow::{Context, Result, ensure};
use slim_runtime::Slimming;
use slim_runtime::criterion::{Activations, MeanActivation};
use tch::nn::ModuleT;
use tch::{Reduction, Tensor};

use crate::data::{Sample, Split};
use crate::model::Model;
use crate::network::Net;
use crate::slimming::{CriterionName, Reads};
use crate::train::loss;

/// Batch size.
const BATCH: usize = 64;

const NO_BATCH: &str = "a criterion that reads training images needs at least one batch of them";

/// Training images `[N, C, H, W]` to correct a network on, batch by batch, drawn by `seed`: others
/// than the first `others` of that seed, as far as there are any.
///
/// # Errors
/// A damaged image, no image at all.
pub(crate) fn calibration(
    train: &dyn Split,
    others: usize,
    batches: usize,
    seed: u64,
) -> Result<Vec<Tensor>> {
    let mut images = Vec::new();
    let sample = Sample::apart_from(train, others, batches.saturating_mul(BATCH), seed);
    // Not augmented: at inference, images are not.
    for batch in sample.batches(BATCH) {
        let batch = batch?.images;
        // Statistics of a smaller batch would weigh as much.
        if batch.size()[0] == BATCH as i64 || images.is_empty() {
            images.push(batch);
        }
    }
    images.first().context("a repair needs at least one training image")?;
    Ok(images)
}

/// The slimming, with what its criterion reads computed from some batches; unchanged if the
/// criterion reads no images.
///
/// # Errors
/// A damaged image, no image at all, no memory.
pub(crate) fn with_images(
    slimming: Slimming,
    model: &Model,
    split: &dyn Split,
    batches: usize,
    seed: u64,
) -> Result<Slimming> {
    Ok(match CriterionName::reading_images(&slimming).and_then(CriterionName::reads) {
        Some(Reads::Gradients) => {
            compute_gradients(model, split, batches, seed)?;
            slimming
        }
        Some(Reads::Activations) => {
            let activations = record_activations(model, split, batches, seed)?;
            slimming.criterion(MeanActivation::new(activations))
        }
        None => slimming,
    })
}

/// Accumulates the gradients of the loss over some batches, in evaluation mode, so that only the
/// gradients of the network change.
///
/// # Errors
/// A damaged image, no image at all, no memory.
fn compute_gradients(model: &Model, split: &dyn Split, batches: usize, seed: u64) -> Result<()> {
    forget_gradients(model)?;
    let mut any = false;
    for batch in split.shuffled(BATCH, seed, 0).take(batches) {
        let batch = batch?;
        let outputs = model.net.forward_t(&batch.images, false);
        loss(&outputs, &batch.labels, Reduction::Mean)?.f_backward()?;
        any = true;
    }
    any.then_some(()).context(NO_BATCH)
}

/// Records the mean activations of the network on some batches.
///
/// # Errors
/// A damaged image, no image at all, a layer that reports no output, no memory.
fn record_activations(
    model: &Model,
    split: &dyn Split,
    batches: usize,
    seed: u64,
) -> Result<Activations> {
    ensure!(batches > 0 && !split.is_empty(), NO_BATCH);
    let mut damaged = None;
    // Not augmented: at inference, images are not.
    let sample = Sample::new(split, batches.saturating_mul(BATCH), seed);
    let images = sample.batches(BATCH).map_while(|batch| {
        batch.map(|batch| batch.images).map_err(|error| damaged = Some(error)).ok()
    });
    let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);
    let recorded = Activations::record(&model.net, images, forward);
    damaged.map_or(Ok(()), Err)?;
    Ok(recorded?)
}

/// Sets all gradients to zero, since new gradients would be added to those of the last training
/// step.
fn forget_gradients(model: &Model) -> Result<()> {
    for variable in model.vs.trainable_variables() {
        let mut gradient = variable.f_grad()?;
        if gradient.defined() {
            let _ = gradient.f_detach_()?.f_zero_()?;
        }
    }
    Ok(())
}
