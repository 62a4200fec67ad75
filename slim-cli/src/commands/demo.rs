//! Trains a VGG on handwritten digits, slims it, checks that it still computes the same function,
//! and fine-tunes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::data::{DataSet, digits};
use crate::device::DeviceOptions;
use crate::files::Folder;
use crate::model::{Model, Wanted};
use crate::network::{Arch, Net, Spec};
use crate::prune::{PRUNED, prune_txt};
use crate::terminal;
use crate::train::{Output, Recipe, evaluate, train};
use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use slim_runtime::{Benchmark, Plan, Prunable, Slimming, Sweep, Swept, channels, checkpoint};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

/// Batch size of test passes.
const TEST_BATCH: usize = 256;

/// Train a VGG with channel sparsity on handwritten digits, slim it, fine-tune it.
///
/// Everything is computed here and now, on the digits that come with the project; the same seed
/// gives the same run on the same machine.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Share of channels to remove, in [0, 1).
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Epochs of training with sparsity.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Epochs of fine-tuning.
    #[arg(long, default_value_t = 10)]
    fine_tune_epochs: usize,
    /// Factor of the L1 penalty on γ.
    #[arg(long, default_value_t = 5e-3)]
    sparsity: f64,
    /// Seed of initialisation and shuffling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for plan.json, prune.txt and the weights.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// One epoch each, to see that everything runs.
    #[arg(long)]
    smoke: bool,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let (epochs, fine_tune_epochs) =
        if options.smoke { (1, 1) } else { (options.epochs, options.fine_tune_epochs) };
    ensure!(
        (0.0..1.0).contains(&options.ratio),
        slim_runtime::Error::Argument(slim_runtime::error::ArgumentError::Ratio(options.ratio))
    );
    let device = options.device.set_up()?;
    let folder = Folder::new(&options.out)?;
    tch::manual_seed(options.seed as i64);
    let digits = digits::load(device)?;
    let images = digits.test.images.shallow_clone();
    let data = DataSet::from(digits);

    let cfg = channels![32, M, 64, M, 128, 128, M, 128, 128, M, 128, 128];
    println!(
        "VGG {cfg} on {device:?}, {} training and {} test images of digits\n",
        data.train.len(),
        data.test.len()
    );
    let mut model = Model::new(Spec::new(Arch::Vgg, None, Some(cfg), data.classes)?, device)?;
    let mut stages = Stages::new(&data, &images, &options.out);
    let output = Output { quiet: true, ..Output::default() };

    let start = Instant::now();
    let recipe =
        Recipe { epochs, sparsity: options.sparsity, seed: options.seed, ..Recipe::default() };
    train(&mut model, &data, &recipe, &output, None)?;
    println!(
        "trained {} epochs with sparsity {} in {:.0} s",
        epochs,
        options.sparsity,
        start.elapsed().as_secs_f64()
    );
    stages.add("dense", &model.net, &model.vs)?;
    println!("\n{}\n", accuracy_by_ratio(&mut model.net, &data, &images)?);

    let plan = model.net.plan(&Slimming::ratio(options.ratio))?;
    plan.masked(&mut model.net, |net| stages.add("masked", net, &model.vs))??;

    let start = Instant::now();
    // `verify` keeps the surgery only if the slimmed network gives the masked network's outputs on
    // the test images.
    let verified = plan
        .verify(&images, |net: &Net, images| net.forward_t(images, false))
        .apply(&mut model.net)?;
    let slimmed = &verified.slimmed;
    println!(
        "verified and slimmed in {:.0} ms\n\n{slimmed}\n",
        1e3 * start.elapsed().as_secs_f64()
    );
    println!("same function: on the {} test images, {verified}", data.test.len());
    model.slimmed = Some(slimmed.clone());
    stages.add("slimmed", &model.net, &model.vs)?;

    let start = Instant::now();
    // Another seed, so that fine-tuning does not repeat the order of training.
    let recipe =
        Recipe { epochs: fine_tune_epochs, lr: 0.02, sparsity: 0., seed: !options.seed, ..recipe };
    train(&mut model, &data, &recipe, &output, None)?;
    println!("fine-tuned {} epochs in {:.0} s", fine_tune_epochs, start.elapsed().as_secs_f64());
    let tuned = stages.add("fine-tuned", &model.net, &model.vs)?;
    println!("\n{}\n", stages.table.trim_fmt());

    let file = write_files(
        &folder,
        &slimmed.plan().with_variables(&model.net, &model.vs)?,
        stages.accuracy("masked"),
        &model,
    )?;
    let reloaded =
        evaluate(&Model::read(&file, &Wanted::default(), device)?.net, &*data.test, TEST_BATCH)?
            .accuracy();
    println!("wrote {0}/plan.json, {0}/prune.txt, {0}/pruned.safetensors", options.out.display());
    println!(
        "read pruned.safetensors back into a dense network: accuracy {reloaded:.2} %, fine-tuned was {tuned:.2} %"
    );
    ensure!(reloaded == tuned, "the file that was read back is not the network that was written");
    Ok(())
}

/// Accuracy and MACs after slimming at each of several ratios, without fine-tuning. Restores the
/// network afterwards.
fn accuracy_by_ratio(net: &mut Net, data: &DataSet, images: &Tensor) -> Result<Swept> {
    let one = images.narrow(0, 0, 1);
    let cost = net.cost(|net| net.forward_t(&one, false))?;
    let sweep = Sweep::ratios([0.2, 0.4, 0.5, 0.6, 0.7, 0.8])
        .macs(|plan| cost.after(plan)?.macs())
        .progress();
    sweep.run(net, |net| Ok::<_, anyhow::Error>(evaluate(net, &*data.test, TEST_BATCH)?.accuracy()))
}

fn write_files(
    folder: &Folder,
    plan: &Plan,
    masked_accuracy: f64,
    model: &Model,
) -> Result<PathBuf> {
    let mut draft = folder.draft()?;
    draft.text("plan.json", &(plan.to_json()? + "\n"))?;
    draft.text(
        "prune.txt",
        &prune_txt(&plan.cfg(), plan.parameters().after, Some(masked_accuracy / 100.)),
    )?;
    draft.network(PRUNED, model)?;
    draft.publish()?;
    Ok(folder.file(PRUNED))
}

/// Measures the network at each stage.
struct Stages<'a> {
    data: &'a DataSet,
    /// Test images.
    images: &'a Tensor,
    out: &'a Path,
    table: Table,
    accuracies: Vec<(&'static str, f64)>,
}

impl<'a> Stages<'a> {
    fn new(data: &'a DataSet, images: &'a Tensor, out: &'a Path) -> Self {
        let table = terminal::table([
            "network",
            "accuracy",
            "parameters",
            "file",
            "latency, 1 image",
            "latency, 64 images",
        ]);
        Self { data, images, out, table, accuracies: Vec::new() }
    }

    fn add(&mut self, name: &'static str, net: &Net, vs: &VarStore) -> Result<f64> {
        let accuracy = evaluate(net, &*self.data.test, TEST_BATCH)?.accuracy();
        let parameters: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
        let file = self.out.join(format!("{name}.safetensors"));
        checkpoint::save_weights(&file, vs)?;
        let latency = |images: i64| {
            let images = self.images.narrow(0, 0, images);
            let pass = Benchmark::new()
                .device(images.device())
                .time(Duration::from_millis(200))
                .measure(|| net.forward_t(&images, false))?;
            Ok::<_, slim_runtime::Error>(format!("{:.2} ms", 1e3 * pass.seconds.median))
        };
        let kilobytes =
            fs::metadata(&file).with_context(|| file.display().to_string())?.len() as f64 / 1e3;
        self.table.add_row([
            name.to_owned(),
            format!("{accuracy:.2} %"),
            format!("{:.0} k", parameters as f64 / 1e3),
            format!("{kilobytes:.0} kB"),
            latency(1)?,
            latency(64)?,
        ]);
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
        self.accuracies.push((name, accuracy));
        Ok(accuracy)
    }

    fn accuracy(&self, name: &str) -> f64 {
        self.accuracies
            .iter()
            .find(|(stage, _)| *stage == name)
            .map_or(f64::NAN, |(_, accuracy)| *accuracy)
    }
}
