//! Evaluation of a network.

use anyhow::{Result, ensure};
use tch::nn::ModuleT;
use tch::{Kind, Reduction, Tensor};

use crate::data::{Batch, Split};

/// Score of a network on some images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean cross entropy.
    pub loss: f64,
    /// Number of images that are classified correctly.
    pub correct: usize,
    /// Number of images.
    pub total: usize,
}

impl Score {
    /// Share of images that are classified correctly, in percent.
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
/// A damaged image, no image at all, errors of libtorch.
pub fn evaluate<M: ModuleT + ?Sized>(net: &M, split: &dyn Split, batch: usize) -> Result<Score> {
    let mut tally = Tally::default();
    split.batches(batch).try_for_each(|batch| tally.add(net, batch?))?;
    tally.score()
}

/// As [`evaluate`]; `None` if `stop` returns true before the end.
pub(super) fn evaluate_until<M: ModuleT + ?Sized>(
    net: &M,
    split: &dyn Split,
    batch: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Score>> {
    let mut tally = Tally::default();
    for batch in split.batches(batch) {
        if stop() {
            return Ok(None);
        }
        tally.add(net, batch?)?;
    }
    tally.score().map(Some)
}

/// Counts so far. They stay on the device until the end, so that batches do not wait for it.
#[derive(Default)]
struct Tally {
    losses: Vec<Tensor>,
    hits: Vec<Tensor>,
    total: usize,
}

impl Tally {
    fn add<M: ModuleT + ?Sized>(&mut self, net: &M, Batch { images, labels }: Batch) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let outputs = net.forward_t(&images, false);
        self.losses.push(loss(&outputs, &labels, Reduction::Sum)?.f_to_kind(Kind::Double)?);
        self.hits.push(correct(&outputs, &labels)?);
        self.total += labels.numel();
        Ok(())
    }

    fn score(self) -> Result<Score> {
        ensure!(self.total > 0, "there is no image to test with");
        let sum = |values: &[Tensor]| {
            Tensor::f_stack(values, 0)?.f_sum(Kind::Double)?.f_double_value(&[])
        };
        Ok(Score {
            loss: sum(&self.losses)? / self.total as f64,
            correct: sum(&self.hits)? as usize,
            total: self.total,
        })
    }
}

/// Cross entropy of a network's outputs.
///
/// # Errors
/// Errors of libtorch, for a label that is not a class.
pub(crate) fn loss(outputs: &Tensor, labels: &Tensor, reduction: Reduction) -> Result<Tensor> {
    Ok(outputs.f_cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.)?)
}

/// Number of images that are classified correctly, as a tensor on the device of `outputs`.
///
/// # Errors
/// Errors of libtorch.
pub(super) fn correct(outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(outputs.f_argmax(-1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?)
}
