//! A pruning job, as the command line specifies it.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use slim_runtime::{Prunable, Slimming, Target};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

use super::{Pruning, Repair, latency, nothing_to_recalibrate, prune, with_images};
use crate::data::{DataSet, Split};
use crate::model::Model;
use crate::network::Spec;
use crate::slimming::{CriterionName, SlimmingOptions};
use crate::train;

/// Options and data of a pruning.
pub struct Job<'j> {
    /// Which channels to remove.
    pub slimming: &'j SlimmingOptions,
    /// A slimming in place of these options, such as one that a search has found.
    pub found: Option<&'j Slimming>,
    /// The data set, if there is one.
    pub data: Option<&'j DataSet>,
    /// Whether accuracy is measured at each stage, on its test images.
    pub test: bool,
    /// Batch size of test passes.
    pub test_batch_size: usize,
    /// Seed of the random criterion, and of the order of training images.
    pub seed: u64,
    /// Device of the network.
    pub device: Device,
}

/// Number of images on which the slimmed network is compared with the masked one.
const SAMPLE: usize = 8;

impl Job<'_> {
    /// Prunes a network, by the share `ratio` of its channels if given, else by the options.
    ///
    /// # Errors
    /// Errors of [`prune`]; a criterion that needs images, without a data set.
    pub fn prune(&self, model: &mut Model, ratio: Option<f64>) -> Result<Pruning> {
        let sample = self.sample(model)?;
        let mut slimming = self.slimming(model, &sample, ratio)?;
        if let Some(criterion) = CriterionName::reading_images(&slimming) {
            let split = self.training_images(criterion)?;
            let batches = self.slimming.ranking.taylor_batches;
            slimming = with_images(slimming, model, split, batches, self.seed)?;
        }
        let measure = |net: &_| {
            self.data
                .filter(|_| self.test)
                .map(|data| train::evaluate(net, &*data.test, self.test_batch_size))
                .transpose()
        };
        let repair = match self.slimming.repairs() {
            true => Repair::new(self.slimming, self.repair_images()?, self.seed)?,
            false => Repair::default(),
        };
        let Some(file) = self.slimming.latency_table() else {
            return prune(model, &slimming, &sample, &repair, measure);
        };
        let image = sample.narrow(0, 0, 1);
        let table = latency::table(file, &model.net, &image)?;
        let before = latency::measured(&model.net, &image)?;
        let mut pruning = prune(model, &slimming, &sample, &repair, measure)?;
        let after = latency::measured(&model.net, &image)?;
        pruning.latency = Some(table.check(pruning.slimmed.plan(), &before, &after)?);
        Ok(pruning)
    }

    /// Makes a plan and discards it, so that impossible requests fail before any work.
    ///
    /// # Errors
    /// Errors of planning; a criterion that needs images, without a data set.
    pub fn check(&self, model: &Model, ratio: Option<f64>) -> Result<()> {
        if self.slimming.repairs() {
            self.repair_images()?;
        }
        ensure!(
            model.spec.arch.has_batch_norms() || !self.slimming.recalibrate,
            nothing_to_recalibrate(&model.spec)
        );
        let mut slimming = self.slimming(model, &self.sample(model)?, ratio)?;
        if let Some(criterion) = CriterionName::reading_images(&slimming) {
            self.training_images(criterion)?;
            // What is read takes time to compute, and does not decide whether a plan is possible.
            slimming = criterion.without_images(slimming);
        }
        model.net.plan(&slimming).map_err(|error| model.explained(error))?;
        Ok(())
    }

    /// The same check for a network that is not trained yet, so that impossible requests fail
    /// before training.
    ///
    /// # Errors
    /// Errors of [`check`](Self::check).
    pub fn rehearse(&self, spec: &Spec, ratio: Option<f64>) -> Result<()> {
        let model = Model::new(spec.clone(), self.device)?;
        model.draw_scales();
        self.check(&model, ratio)
    }

    fn slimming(&self, model: &Model, sample: &Tensor, ratio: Option<f64>) -> Result<Slimming> {
        if let Some(found) = self.found {
            return Ok(self.slimming.ranking.absorbing(found.clone()));
        }
        let one = sample.narrow(0, 0, 1);
        let slimming = self.slimming.slimming(
            model.spec.arch.has_batch_norms(),
            self.seed,
            || Ok(model.net.cost(|net| net.forward_t(&one, false))?),
            || {
                let file = self.slimming.latency_table().context("--latency has a table")?;
                latency::table(file, &model.net, &one)
            },
        )?;
        Ok(match ratio {
            Some(ratio) => with_ratio(slimming, ratio),
            None => slimming,
        })
    }

    fn training_images(&self, criterion: CriterionName) -> Result<&dyn Split> {
        let data = self.data.with_context(|| {
            let name = criterion.to_possible_value();
            let name = name.as_ref().map_or("taylor", PossibleValue::get_name);
            format!("`--criterion {name}` reads training images, so it needs a data set: say --dataset instead of --no-test")
        })?;
        Ok(&*data.train)
    }

    fn repair_images(&self) -> Result<&dyn Split> {
        let data = self.data.context(
            "`--reconstruct` and `--recalibrate` read training images, so they need a data set: say --dataset instead of --no-test",
        )?;
        Ok(&*data.train)
    }

    /// Test images, or noise without a data set.
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
