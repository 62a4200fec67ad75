//! Training with channel sparsity, as in the reference: SGD with momentum, two steps of the learning rate.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use slim_runtime::Prunable;
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Kind, Tensor};

use crate::data::digits::Split;

/// How to train. The defaults are the reference's, but for the number of epochs.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Passes over the training data.
    pub epochs: usize,
    /// Learning rate; a tenth from half of the epochs on, a hundredth in the last quarter.
    pub learning_rate: f64,
    /// Factor `s` of the L1 penalty on γ; 0 for none.
    pub sparsity: f64,
    /// Images per step.
    pub batch: i64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { epochs: 160, learning_rate: 0.1, sparsity: 1e-4, batch: 64 }
    }
}

impl Schedule {
    fn rate(&self, epoch: usize) -> f64 {
        match epoch {
            _ if epoch * 4 >= self.epochs * 3 => self.learning_rate * 0.01,
            _ if epoch * 2 >= self.epochs => self.learning_rate * 0.1,
            _ => self.learning_rate,
        }
    }
}

/// Trains the variables of `vs`, with a progress bar where standard error is a terminal.
///
/// # Errors
/// libtorch's, and those of [`Prunable::add_l1_subgradient`].
pub fn fit<M: ModuleT + Prunable>(model: &M, vs: &VarStore, data: &Split, schedule: &Schedule) -> Result<()> {
    let mut optimizer = nn::Sgd { momentum: 0.9, wd: 1e-4, ..Default::default() }.build(vs, schedule.learning_rate)?;
    let bar = progress_bar(schedule.epochs, data.len(), schedule.batch);
    for epoch in 0..schedule.epochs {
        optimizer.set_lr(schedule.rate(epoch));
        let order = Tensor::f_randperm(data.len(), (Kind::Int64, vs.device()))?;
        for batch in order.f_split(schedule.batch, 0)? {
            let (images, labels) = (data.images.f_index_select(0, &batch)?, data.labels.f_index_select(0, &batch)?);
            let loss = model.forward_t(&images, true).cross_entropy_for_logits(&labels);
            optimizer.zero_grad();
            loss.f_backward()?;
            if schedule.sparsity > 0. {
                model.add_l1_subgradient(schedule.sparsity)?;
            }
            optimizer.step();
            bar.set_message(format!("epoch {}/{}, loss {:.3}", epoch + 1, schedule.epochs, f64::try_from(&loss)?));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The model's outputs on all images, in evaluation mode.
pub fn logits<M: ModuleT>(model: &M, data: &Split) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let outputs: Vec<_> = data.images.split(256, 0).iter().map(|images| model.forward_t(images, false)).collect();
    Tensor::cat(&outputs, 0)
}

/// The share of images that the model gets right, in percent.
pub fn accuracy<M: ModuleT>(model: &M, data: &Split) -> f64 {
    100. * logits(model, data).accuracy_for_logits(&data.labels).double_value(&[])
}

fn progress_bar(epochs: usize, images: i64, batch: i64) -> ProgressBar {
    let steps = epochs as u64 * ((images + batch - 1) / batch) as u64;
    // The template is a constant, and the fallback a bar all the same.
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {msg}, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style)
}
