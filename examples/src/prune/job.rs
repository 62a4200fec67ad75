//! Pruning as a command line asks for it.

use anyhow::{Context, Result};
use slim_runtime::criterion::L1;
use slim_runtime::{Prunable, Slimming, Target};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

use super::{Pruning, prune, taylor};
use crate::data::{DataSet, Part};
use crate::model::Model;
use crate::network::Spec;
use crate::slimming::{CriterionName, SlimmingOptions};
use crate::train;

/// What is wanted, and what it is measured on.
pub struct Job<'j> {
    /// What is to go.
    pub slimming: &'j SlimmingOptions,
    /// The data set, if it is to be measured.
    pub data: Option<&'j DataSet>,
    /// Images at a time.
    pub test_batch_size: usize,
    /// Of the random criterion, and of the order of training images.
    pub seed: u64,
    /// Where the network is.
    pub device: Device,
}

/// How many images show that the slimmed network is the masked one.
const SAMPLE: usize = 8;

impl Job<'_> {
    /// Prunes a network; by the share `ratio` of its channels, where that is given, and else by
    /// what the options ask for.
    ///
    /// # Errors
    /// Those of [`prune`]; a criterion that needs images where there are none.
    pub fn prune(&self, model: &mut Model, ratio: Option<f64>) -> Result<Pruning> {
        let sample = self.sample(model)?;
        if self.slimming.criterion == CriterionName::Taylor {
            taylor::compute_gradients(
                model,
                self.training_images()?,
                self.slimming.taylor_batches,
                self.seed,
            )?;
        }
        let slimming = self.slimming(model, &sample, ratio)?;
        let measure = |net: &_| {
            self.data
                .map(|data| train::evaluate(net, &*data.test, self.test_batch_size))
                .transpose()
        };
        prune(model, &slimming, &sample, measure)
    }

    /// Plans, and forgets it: what cannot be asked of this network is found out before any work.
    ///
    /// # Errors
    /// Those of planning; a criterion that needs images where there are none.
    pub fn check(&self, model: &Model, ratio: Option<f64>) -> Result<()> {
        let mut slimming = self.slimming(model, &self.sample(model)?, ratio)?;
        if self.slimming.criterion == CriterionName::Taylor {
            self.training_images()?;
            // Gradients are work, and no matter of what can be asked.
            slimming = slimming.criterion(L1);
        }
        model.net.plan(&slimming)?;
        Ok(())
    }

    /// The same for a network that nobody has trained yet: what cannot be asked is found out before
    /// training.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn rehearse(&self, spec: &Spec, ratio: Option<f64>) -> Result<()> {
        let model = Model::new(spec.clone(), self.device)?;
        model.draw_scales();
        self.check(&model, ratio)
    }

    fn slimming(&self, model: &Model, sample: &Tensor, ratio: Option<f64>) -> Result<Slimming> {
        let one = sample.narrow(0, 0, 1);
        let slimming = self
            .slimming
            .slimming(self.seed, || Ok(model.net.cost(|net| net.forward_t(&one, false))?))?;
        Ok(match ratio {
            Some(ratio) => with_ratio(slimming, ratio),
            None => slimming,
        })
    }

    fn training_images(&self) -> Result<&dyn Part> {
        let data = self.data.context("`--criterion taylor` reads gradients on training images, so it does not go without a data set")?;
        Ok(&*data.train)
    }

    /// Test images, or noise where there are none.
    fn sample(&self, model: &Model) -> Result<Tensor> {
        match self.data {
            Some(data) => Ok(data
                .test
                .batches(SAMPLE)
                .next()
                .context("the data set has no test image")??
                .images),
            None => {
                let [channels, height, width] = model.spec.image();
                Ok(Tensor::f_randn(
                    [SAMPLE as i64, channels, height, width],
                    (Kind::Float, self.device),
                )?)
            }
        }
    }
}

fn with_ratio(mut slimming: Slimming, ratio: f64) -> Slimming {
    slimming.target = Target::Ratio(ratio);
    slimming
}
