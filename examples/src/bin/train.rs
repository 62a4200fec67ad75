//! Trains a network with channel sparsity, or fine-tunes a pruned one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use slim_examples::data::{self, DataSet, Name};
use slim_examples::device::DeviceOptions;
use slim_examples::model::{Model, Wanted};
use slim_examples::network::{Arch, Spec};
use slim_examples::program::{self, say};
use slim_examples::train::{self, Interrupt, Output, Recipe, RecipeOptions, Resume, train};
use slim_runtime::{Cfg, checkpoint};
use tch::{Device, Tensor};

/// The key of the metadata under which a file says its data set.
const DATASET: &str = "dataset";

/// Train a network with channel sparsity, or fine-tune a pruned one.
///
/// After each epoch, --save has checkpoint.safetensors (all that --resume needs), model_best.safetensors (weights, for prune) and
/// metrics.jsonl (a JSON object an epoch: losses, accuracies, and how |γ| is distributed).
///
/// Ctrl-C finishes the step, saves, and says how to go on. A run that was stopped or killed and goes on from its checkpoint ends with the
/// weights of one that ran through.
#[derive(Debug, Parser)]
#[command(name = "train", version, args_override_self = true, max_term_width = 110, after_long_help = EXAMPLES, after_help = "The manual, with examples: train --help")]
struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    files: FileOptions,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    device: DeviceOptions,
    /// Threads of libtorch; with 1, on the CPU, a run can be repeated to the bit [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
}

const EXAMPLES: &str = "\
Examples:
  The reference's commands, on CIFAR-10 in ./data:
    train -sr --s 1e-4 --dataset cifar10 --arch vgg --depth 19 --save logs/sparse
    prune --percent 0.7 --dataset cifar10 --model logs/sparse/model_best.safetensors --save logs/pruned
    train --refine logs/pruned/pruned.safetensors --dataset cifar10 --epochs 40 --lr 0.01 --save logs/refined

  A minute on the digits that come with the project:
    train -sr --s 5e-3 --dataset digits --arch vgg --cfg \"[32, 'M', 64, 'M', 128, 128]\" --epochs 10

  Go on after Ctrl-C, a crash, or a night; the file says the rest:
    train --resume logs/sparse/checkpoint.safetensors

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set, 130 interrupted";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
struct NetworkOptions {
    /// Which network [default: vgg; with --refine and --resume, what the file says]
    #[arg(long)]
    arch: Option<Arch>,
    /// How deep, for vgg, preresnet and densenet [default: 19, 164, 40]
    #[arg(long)]
    depth: Option<u32>,
    /// Widths of a vgg that are not those of its depth, as prune prints them: "[64, 'M', 128]"
    #[arg(long)]
    cfg: Option<Cfg>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Data")]
struct DataOptions {
    /// Images to train and test with [default: with --resume and --refine, what the file says]
    #[arg(long)]
    dataset: Option<Name>,
    /// Folder of the data set
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
struct FileOptions {
    /// Fine-tune the network in this file, pruned or not
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    refine: Option<PathBuf>,
    /// Go on from this checkpoint. Options that contradict it are errors, but for --epochs: what is left is then trained by the new number
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Folder for what is written; files of an earlier run are replaced [default: logs; with --resume, where the file is]
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Watching")]
struct WatchOptions {
    /// Share of channels that will be pruned: says at the end if γ show no gap there [default: 0.5 with -sr]
    #[arg(long, value_name = "SHARE")]
    percent: Option<f64>,
    /// Batches between two lines, where there is no terminal for a progress bar
    #[arg(long, value_name = "N", default_value_t = 100)]
    log_interval: usize,
}

/// Where training begins.
struct Start {
    model: Model,
    recipe: Recipe,
    resume: Option<Resume>,
    /// What it is, for whoever reads.
    text: String,
}

fn main() -> ExitCode {
    let options = Options::parse_from(train::arguments(std::env::args_os()));
    program::main(|| run(&options))
}

fn run(options: &Options) -> Result<()> {
    let device = options.device.device()?;
    if let Some(threads) = options.threads {
        tch::set_num_threads(threads);
    }
    let name = data_set(options)?;
    let data = data::load(name, &options.data.data_dir, device)?;
    let Start { mut model, recipe, resume, text } = start(options, &data, device)?;
    let folder = folder(options);
    let output = Output {
        folder: Some(folder.clone()),
        metadata: BTreeMap::from([(DATASET.to_owned(), name.to_string())]),
        quiet: false,
        log_interval: options.watch.log_interval,
        percent: options.watch.percent.or((recipe.sparsity > 0.).then_some(0.5)),
        interrupt: Interrupt::on_signals()?,
    };

    let parameters: usize = model.vs.trainable_variables().iter().map(Tensor::numel).sum();
    say(format_args!("{text}: {}, {parameters} parameters, on {device:?}", model.spec));
    say(format_args!("{name}: {} images for training, {} for testing", data.train.len(), data.test.len()));
    say(said(&recipe));
    let outcome = train(&mut model, &data, &recipe, &output, resume)?;
    say(format_args!(
        "trained {} epochs in {:.0} s: accuracy {:.2} %, at best {:.2} %; wrote {}",
        outcome.epochs,
        outcome.time.as_secs_f64(),
        outcome.score.accuracy(),
        outcome.best,
        folder.display()
    ));
    for warning in outcome.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// What is said, or what the file to go on from says.
fn data_set(options: &Options) -> Result<Name> {
    let noted = match (&options.files.resume, &options.files.refine) {
        (Some(file), _) => checkpoint::metadata(file, DATASET)?,
        // A file of another kind says none, and what may be wrong with it is said where it is read.
        (None, Some(file)) => checkpoint::metadata(file, DATASET).unwrap_or_default(),
        (None, None) => None,
    };
    let noted = noted.and_then(|text| Name::from_str(&text, false).ok());
    if let (Some(noted), Some(said), Some(_)) = (noted, options.data.dataset, &options.files.resume) {
        ensure!(noted == said, "training goes on as it began: on {noted}, and not on {said}; leave out --dataset");
    }
    options.data.dataset.or(noted).context("which data set? say --dataset; digits is always there")
}

fn start(options: &Options, data: &DataSet, device: Device) -> Result<Start> {
    let NetworkOptions { arch, depth, cfg } = &options.network;
    let wanted = Wanted { arch: *arch, depth: *depth, cfg: cfg.clone(), classes: None };
    let default = Recipe::default();
    if let Some(file) = &options.files.resume {
        let (model, resume) = Resume::read(file, &wanted, device)?;
        let recipe = options.recipe.applied_to(resume.recipe(), model.spec.arch);
        let (epoch, step) = resume.place();
        let mut text = format!("going on with epoch {epoch}, step {step}, of {}", file.display());
        let before = resume.recipe().epochs;
        if before != recipe.epochs {
            text += &format!(" ({} epochs in place of {before}: by these the learning rate falls from here on)", recipe.epochs);
        }
        return Ok(Start { model, recipe, resume: Some(resume), text });
    }
    let (model, text) = match &options.files.refine {
        Some(file) => {
            let model = Model::read(file, &wanted, device)?;
            let text = refined(file, &model);
            (model, text)
        }
        None => {
            tch::manual_seed(options.recipe.seed.unwrap_or(default.seed) as i64);
            let spec = Spec::new(arch.unwrap_or(Arch::Vgg), *depth, cfg.clone(), data.classes)?;
            (Model::new(spec, device)?, "a new network".to_owned())
        }
    };
    let recipe = options.recipe.applied_to(&default, model.spec.arch);
    Ok(Start { model, recipe, resume: None, text })
}

fn refined(file: &Path, model: &Model) -> String {
    match &model.slimmed {
        Some(slimmed) => format!("fine-tuning {}, pruned to {}", file.display(), slimmed.cfg()),
        None => format!("fine-tuning {}, which is not pruned", file.display()),
    }
}

fn folder(options: &Options) -> PathBuf {
    let FileOptions { save, resume, .. } = &options.files;
    let beside = || resume.as_deref().map(|file| file.parent().unwrap_or(Path::new("")).to_owned());
    save.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("logs"))
}

fn said(recipe: &Recipe) -> String {
    let sparsity = match recipe.sparsity {
        0. => "without sparsity".to_owned(),
        sparsity => format!("with sparsity {sparsity}"),
    };
    let decay = if recipe.decay_bn { "" } else { " but of γ and β" };
    format!(
        "{} epochs {sparsity}, lr {}, batch {}, momentum {}, weight decay {}{decay}, seed {}",
        recipe.epochs, recipe.lr, recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.seed
    )
}
