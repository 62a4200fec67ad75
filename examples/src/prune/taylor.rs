//! The gradients that the Taylor criterion reads.

use anyhow::{Context, Result};
use tch::Reduction;
use tch::nn::ModuleT;

use crate::data::Part;
use crate::model::Model;
use crate::train::loss;

/// Images of a batch.
const BATCH: usize = 64;

/// Adds up the gradients of the loss over some batches, in evaluation mode: nothing of the network changes but its gradients.
///
/// # Errors
/// A damaged image, no image at all, no memory.
pub(super) fn accumulate_gradients(model: &Model, part: &dyn Part, batches: usize, seed: u64) -> Result<()> {
    let mut any = false;
    for batch in part.shuffled(BATCH, seed, 0).take(batches) {
        let batch = batch?;
        let outputs = model.net.forward_t(&batch.images, false);
        loss(&outputs, &batch.labels, Reduction::Mean)?.f_backward()?;
        any = true;
    }
    any.then_some(()).context("the Taylor criterion needs at least one batch of training images")
}
