//! The gradients that the Taylor criterion reads.

use anyhow::{Context, Result};
use tch::nn::ModuleT;
use tch::{Reduction, Tensor};

use crate::data::Part;
use crate::model::Model;

/// Images of a batch.
const BATCH: usize = 64;
/// PyTorch's mark of an image without a class.
const NO_LABEL: i64 = -100;

/// Adds up the gradients of the loss over some batches, in evaluation mode: nothing of the network changes but its gradients.
///
/// # Errors
/// A damaged image, no image at all, no memory.
pub(super) fn accumulate_gradients(model: &Model, part: &dyn Part, batches: usize, seed: u64) -> Result<()> {
    let mut any = false;
    for batch in part.shuffled(BATCH, seed, 0).take(batches) {
        let batch = batch?;
        let outputs = model.net.forward_t(&batch.images, false);
        outputs.f_cross_entropy_loss::<Tensor>(&batch.labels, None, Reduction::Mean, NO_LABEL, 0.)?.f_backward()?;
        any = true;
    }
    any.then_some(()).context("the Taylor criterion needs at least one batch of training images")
}
