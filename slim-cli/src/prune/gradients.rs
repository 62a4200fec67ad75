//! Gradients for the criteria that read them.

use anyhow::{Context, Result};
use tch::Reduction;
use tch::nn::ModuleT;

use crate::data::Split;
use crate::model::Model;
use crate::train::loss;

/// Batch size.
const BATCH: usize = 64;

/// Accumulates the gradients of the loss over some batches, in evaluation mode, so that only the
/// gradients of the network change.
///
/// # Errors
/// A damaged image, no image at all, no memory.
pub(super) fn compute_gradients(
    model: &Model,
    split: &dyn Split,
    batches: usize,
    seed: u64,
) -> Result<()> {
    forget_gradients(model)?;
    let mut any = false;
    for batch in split.shuffled(BATCH, seed, 0).take(batches) {
        let batch = batch?;
        let outputs = model.net.forward_t(&batch.images, false);
        loss(&outputs, &batch.labels, Reduction::Mean)?.f_backward()?;
        any = true;
    }
    any.then_some(())
        .context("a criterion that reads gradients needs at least one batch of training images")
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
