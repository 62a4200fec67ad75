//! Measures networks on training images, to choose how much of each layer goes: the options and
//! the files that `slim sensitivity` and `slim search` share.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slim_runtime::{Cost, Prunable, Slimming, recalibrated};
use tch::nn::ModuleT;
use tch::{Kind, Tensor};

use crate::data::{DataSet, Sample, Split};
use crate::device::DeviceOptions;
use crate::files::Folder;
use crate::model::Model;
use crate::network::Net;
use crate::options::{DataOptions, NetworkOptions};
use crate::prune::{calibration, nothing_to_recalibrate, with_images};
use crate::slimming::{CriterionName, REPAIR_BATCHES, RankingOptions, TAYLOR_BATCHES};
use crate::terminal::say;
use crate::train;

/// Which network is measured, on which images, and how its channels are ranked.
#[derive(Debug, Clone, Args)]
pub struct MeasureOptions {
    #[command(flatten)]
    network: NetworkOptions,
    /// The file with its weights
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    model: PathBuf,

    #[command(flatten)]
    data: DataOptions,
    /// How many training images to measure with: drawn by --seed, without augmentation. Test images
    /// are not used
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Data")]
    images: usize,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Data")]
    test_batch_size: usize,
    /// Seed of what is drawn: the images, the random criterion, the search
    #[arg(long, default_value_t = 1, help_heading = "Data")]
    seed: u64,

    #[command(flatten)]
    ranking: RankingOptions,

    /// Measure with statistics of batch norms that are estimated anew, on training images, for each
    /// slimmed or masked network
    #[arg(long, help_heading = "Repair")]
    recalibrate: bool,
    /// Batches of 64 training images for `--recalibrate`, others than those that measure as far as
    /// there are any
    #[arg(long, value_name = "BATCHES", requires = "recalibrate", default_value_t = REPAIR_BATCHES, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Repair")]
    repair_batches: usize,

    /// Folder for what is written; what was interrupted goes on from there
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Files")]
    save: PathBuf,
    #[command(flatten)]
    device: DeviceOptions,
}

/// Interrupted by Ctrl-C or SIGTERM, after everything that was measured is saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "interrupted after {evaluations} evaluations; saved as {}; the same command goes on from here",
    .file.display()
)]
pub struct Stopped {
    /// Number of evaluations that are saved.
    pub evaluations: usize,
    /// The file.
    pub file: PathBuf,
}

/// A network, and the images that it is measured on.
pub struct Measured {
    /// The network.
    pub model: Model,
    /// The images.
    pub images: Images,
    /// What is written into the files, so that a run goes on only with the same options.
    pub run: Run,
}

/// The training images that networks are measured on.
pub struct Images {
    data: DataSet,
    count: usize,
    batch: usize,
    seed: u64,
    /// Images `[N, C, H, W]`, batch by batch, on which batch norms are recalibrated; empty if batch
    /// norms keep their statistics.
    calibration: Vec<Tensor>,
}

/// What measurements depend on besides the slimming.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The network by name.
    pub network: String,
    /// The [fingerprint](Model::fingerprint) of its weights.
    pub weights: String,
    /// The data set.
    pub dataset: String,
    /// Number of images.
    pub images: usize,
    /// Seed of the images, and of a search.
    pub seed: u64,
    /// Number of individuals of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<usize>,
    /// The file of the sensitivity that a search begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<PathBuf>,
    /// Batches of images that the criterion reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion_batches: Option<usize>,
    /// Batches of images on which batch norms are recalibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_batches: Option<usize>,
}

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved<T> {
    /// What it depends on.
    pub run: Run,
    /// What is measured.
    pub state: T,
}

impl MeasureOptions {
    /// The seed of everything that is drawn.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Where the files go.
    pub fn save(&self) -> &Path {
        &self.save
    }

    /// Where the network comes from.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// The options of `slim prune` by which it removes the same channels again, and repairs as
    /// these networks were before they were measured; each with a space in front.
    pub fn for_prune(&self) -> String {
        let mut options = String::new();
        let mut add = |name: &str, value: Option<String>| {
            options += &format!(" --{name}");
            options.extend(value.map(|value| format!(" {value}")));
        };
        if self.recalibrate {
            add("recalibrate", None);
            if self.repair_batches != REPAIR_BATCHES {
                add("repair-batches", Some(self.repair_batches.to_string()));
            }
        }
        if self.ranking.taylor_batches != TAYLOR_BATCHES {
            add("taylor-batches", Some(self.ranking.taylor_batches.to_string()));
        }
        if self.seed != 1 {
            add("seed", Some(self.seed.to_string()));
        }
        options
    }

    /// Makes the folder for the files.
    ///
    /// # Errors
    /// It cannot be made, or is not writable.
    pub fn folder(&self) -> Result<Folder> {
        Folder::new(&self.save)
    }

    /// Reads the network and the images.
    ///
    /// # Errors
    /// A network or a data set that is not there, or that do not fit.
    pub fn set_up(&self) -> Result<Measured> {
        let device = self.device.set_up()?;
        // A data set that the options name is looked up before any other work.
        self.data.dataset.map(|said| self.data.name(Some(said))).transpose()?;
        let model = Model::read(&self.model, &self.network.wanted(), device)?;
        let name = self.data.name(model.dataset)?;
        let data = self.data.load(name, device)?;
        data.ensure_fits(&model.spec)?;
        let count = self.images.min(data.train.len());
        say(format_args!(
            "read {}: {}, measured on {count} training images of {name}",
            self.model.display(),
            model.spec
        ));
        let has_batch_norms = model.spec.arch.has_batch_norms();
        ensure!(has_batch_norms || !self.recalibrate, nothing_to_recalibrate(&model.spec));
        let ranked = self.ranking.applied_to(Slimming::ratio(0.), has_batch_norms, self.seed);
        let reads = CriterionName::reading_images(&ranked);
        let run = Run {
            network: model.spec.to_string(),
            weights: model.fingerprint()?,
            dataset: name.to_string(),
            images: count,
            seed: self.seed,
            population: None,
            sensitivity: None,
            criterion_batches: reads.map(|_| self.ranking.taylor_batches),
            repair_batches: self.recalibrate.then_some(self.repair_batches),
        };
        let calibration = match run.repair_batches {
            Some(batches) => calibration(&*data.train, count, batches, self.seed)?,
            None => Vec::new(),
        };
        let (batch, seed) = (self.test_batch_size, self.seed);
        let images = Images { data, count, batch, seed, calibration };
        ensure!(
            images.is_finite(&model.net)?,
            "the outputs of the network in {} are not finite, so nothing can be measured: look for NaN or infinity in its weights",
            self.model.display()
        );
        Ok(Measured { model, images, run })
    }

    /// The slimming with the ranking of these options. Gradients or activations that its criterion
    /// reads are computed here.
    ///
    /// # Errors
    /// Errors of libtorch; a damaged image.
    pub fn ranked(&self, slimming: Slimming, measured: &Measured) -> Result<Slimming> {
        let Measured { model, images, .. } = measured;
        let has_batch_norms = model.spec.arch.has_batch_norms();
        let slimming = self.ranking.applied_to(slimming, has_batch_norms, self.seed);
        let train = &*images.data.train;
        with_images(slimming, model, train, self.ranking.taylor_batches, self.seed)
    }
}

impl Measured {
    /// Parameters and multiply-accumulates of the network, for one image.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn cost(&self) -> Result<Cost> {
        let image = self.blank()?;
        Ok(self.model.net.cost(|net| net.forward_t(&image, false))?)
    }

    /// An image without content, `[1, C, H, W]`, for what does not depend on values.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn blank(&self) -> Result<Tensor> {
        let [channels, height, width] = self.model.spec.image();
        let options = (Kind::Float, self.model.vs.device());
        Ok(Tensor::f_zeros([1, channels, height, width], options)?)
    }

    /// Which statistics the batch norms of the networks have that are measured.
    pub fn statistics(&self) -> String {
        match self.run.repair_batches {
            Some(_) => {
                let batches = self.images.calibration.len();
                format!("recalibrated on {batches} batches for each measurement")
            }
            None => "as they were trained".to_owned(),
        }
    }

    /// What an earlier run with the same options has saved; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or of a run with other options.
    pub fn saved<T: DeserializeOwned>(&self, file: &Path) -> Result<Option<T>> {
        if !file.exists() {
            return Ok(None);
        }
        let Saved { run, state } = read(file).context("to begin anew, choose another --save")?;
        ensure!(run == self.run, of_another_run(file));
        Ok(Some(state))
    }
}

/// What a file of `slim sensitivity` or `slim search` holds.
///
/// # Errors
/// A file that cannot be read, or that holds something else.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<Saved<T>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} does not hold what `slim` writes there", file.display()))
}

/// The error for a file of a run with other options.
pub fn of_another_run(file: &Path) -> String {
    format!(
        "{} is of another run, with other options, weights or times: choose another --save",
        file.display()
    )
}

impl Images {
    /// Whether the outputs of a network for some of the images are finite.
    fn is_finite(&self, net: &Net) -> Result<bool> {
        let sample = Sample::new(&*self.data.train, self.batch.min(self.count), self.seed);
        let batch = sample.batches(self.batch).next().context("there is no training image")??;
        let outputs = tch::no_grad(|| net.forward_t(&batch.images, false));
        Ok(bool::try_from(outputs.f_isfinite()?.f_all()?)?)
    }

    /// Accuracy of a network in evaluation mode, in percent, with the statistics of its batch norms
    /// or with those that recalibration gives it.
    ///
    /// # Errors
    /// A damaged image, errors of libtorch and of recalibration.
    pub fn accuracy(&self, net: &Net) -> Result<f64> {
        let sample = Sample::new(&*self.data.train, self.count, self.seed);
        let accuracy = |net: &Net| Ok(train::evaluate(net, &sample, self.batch)?.accuracy());
        if self.calibration.is_empty() {
            return accuracy(net);
        }
        // Dropout is active while statistics are estimated, and draws the same each time.
        tch::manual_seed(self.seed as i64);
        let forward = |net: &Net, images: &Tensor| Ok(net.forward_t(images, true));
        recalibrated(net, &self.calibration, forward, accuracy)?
    }
}
