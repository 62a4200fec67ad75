//! What a network gets right.

use anyhow::{Result, ensure};
use tch::nn::ModuleT;
use tch::{Kind, Reduction, Tensor};

use crate::data::{Batch, Part};

/// What a network gets right of some images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean cross entropy.
    pub loss: f64,
    /// How many images it gets right.
    pub correct: usize,
    /// How many there are.
    pub total: usize,
}

impl Score {
    /// The share of images that it gets right, in percent.
    pub fn accuracy(&self) -> f64 {
        percent(self.correct, self.total)
    }
}

pub(super) fn percent(correct: usize, total: usize) -> f64 {
    100. * correct as f64 / total.max(1) as f64
}

/// Scores a network in evaluation mode, `batch` images at a time.
///
/// # Errors
/// A damaged image, no image at all, libtorch's.
pub fn evaluate<M: ModuleT + ?Sized>(net: &M, part: &dyn Part, batch: usize) -> Result<Score> {
    let never = || false;
    let score = evaluate_until(net, part, batch, &never)?;
    Ok(score.unwrap_or(Score { loss: 0., correct: 0, total: 0 }))
}

/// The same; `None` where `stop` says so before the end.
pub(super) fn evaluate_until<M: ModuleT + ?Sized>(
    net: &M,
    part: &dyn Part,
    batch: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Score>> {
    let _no_grad = tch::no_grad_guard();
    let (mut losses, mut hits, mut total) = (Vec::new(), Vec::new(), 0);
    for batch in part.batches(batch) {
        if stop() {
            return Ok(None);
        }
        let Batch { images, labels } = batch?;
        let outputs = net.forward_t(&images, false);
        losses.push(loss(&outputs, &labels, Reduction::Sum)?.f_to_kind(Kind::Double)?);
        hits.push(correct(&outputs, &labels)?);
        total += labels.numel();
    }
    ensure!(total > 0, "there is no image to test with");
    // Fetched at the end, once: a device is not waited for between batches.
    let sum = |values: &[Tensor]| Tensor::f_stack(values, 0)?.f_sum(Kind::Double)?.f_double_value(&[]);
    Ok(Some(Score { loss: sum(&losses)? / total as f64, correct: sum(&hits)? as usize, total }))
}

/// Cross entropy of a network's outputs.
///
/// # Errors
/// libtorch's, for a label that is no class.
pub(super) fn loss(outputs: &Tensor, labels: &Tensor, reduction: Reduction) -> Result<Tensor> {
    Ok(outputs.f_cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.)?)
}

/// How many images a network gets right, as a tensor on its device.
///
/// # Errors
/// libtorch's.
pub(super) fn correct(outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(outputs.f_argmax(-1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?)
}
