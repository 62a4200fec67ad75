//! Evaluation of a network.

use anyhow::{Result, ensure};
use slim_distributed::{Distributed, Reduce};
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
    tally.sums()?.score()
}

/// As [`evaluate`], where each process tests its part; `None` if `stop` returns true in one of them
/// before its end. Collective.
pub(super) fn evaluate_until<M: ModuleT + ?Sized>(
    net: &M,
    split: &dyn Split,
    batch: usize,
    dist: &Distributed,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Score>> {
    let mut tally = Tally::default();
    let mut stopped = false;
    for batch in split.own_batches(batch, dist.share()) {
        stopped = stop();
        if stopped {
            break;
        }
        tally.add(net, batch?)?;
    }
    let Sums { loss, correct, total } = tally.sums()?;
    let own = [loss, correct as f64, total as f64, f64::from(stopped)];
    let &[loss, correct, total, stopped] = &summed(dist, &own)?[..] else { return Ok(None) };
    let sums = Sums { loss, correct: correct as usize, total: total as usize };
    if stopped > 0. { Ok(None) } else { sums.score().map(Some) }
}

/// The sums of numbers over all processes. Collective, unless this process is alone.
///
/// # Errors
/// A process that does not answer.
pub(super) fn summed(dist: &Distributed, own: &[f64]) -> Result<Vec<f64>> {
    match dist.world_size() {
        // Without the way to the device and back.
        1 => Ok(own.to_vec()),
        _ => Ok(dist.all_reduce_numbers(own, Reduce::Sum)?),
    }
}

/// Counts so far. They stay on the device until the end, so that batches do not wait for it.
#[derive(Default)]
struct Tally {
    losses: Vec<Tensor>,
    hits: Vec<Tensor>,
    total: usize,
}

/// Sums over images.
struct Sums {
    loss: f64,
    correct: usize,
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

    fn sums(self) -> Result<Sums> {
        let sum = |values: &[Tensor]| match values {
            [] => Ok(0.),
            values => Tensor::f_stack(values, 0)?.f_sum(Kind::Double)?.f_double_value(&[]),
        };
        Ok(Sums { loss: sum(&self.losses)?, correct: sum(&self.hits)? as usize, total: self.total })
    }
}

impl Sums {
    fn score(self) -> Result<Score> {
        let Self { loss, correct, total } = self;
        ensure!(total > 0, "there is no image to test with");
        Ok(Score { loss: loss / total as f64, correct, total })
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
