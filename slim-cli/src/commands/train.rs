//! Trains a network with channel sparsity, or fine-tunes a pruned one.

use std::fmt::Arguments;
use std::path::{Path, PathBuf};

use crate::data::DataSet;
use crate::device::DeviceOptions;
use crate::model::Model;
use crate::numbers::grouped;
use crate::options::{DataOptions, NetworkOptions, Usage};
use crate::processes::{self, ReportedElsewhere};
use crate::terminal::{self, quoted};
use crate::train::{
    DistillationOptions, FileOptions, Interrupt, Interrupted, Output, PenaltyName, PruningOptions,
    Recipe, RecipeOptions, Resume, hand_over, train_among,
};
use anyhow::{Error, Result, ensure};
use slim_distributed::{Distributed, Launch};
use tch::Tensor;

/// Train a network with channel sparsity, or fine-tune a pruned one.
///
/// After each epoch, --save has checkpoint.safetensors (all that --resume needs),
/// model_best.safetensors (weights, for prune) and metrics.jsonl (a JSON object an epoch: losses,
/// accuracies, and how |γ| is distributed).
///
/// Ctrl-C finishes the step, saves, and says how to go on. A run that was stopped or killed and
/// goes on from its checkpoint ends with the weights of an uninterrupted run.
///
/// torchrun --no-python starts it in several processes, which share each batch.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim train --help")]
pub(super) struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    pruning: PruningOptions,
    #[command(flatten)]
    distillation: DistillationOptions,
    #[command(flatten)]
    files: FileOptions,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

const EXAMPLES: &str = "\
Examples:
  The reference's commands, on CIFAR-10 in ./data:
    slim train -sr --s 1e-4 --dataset cifar10 --arch vgg --depth 19 --save logs/sparse
    slim prune --percent 0.7 --dataset cifar10 --model logs/sparse/checkpoint.safetensors --save logs/pruned
    slim train --refine logs/pruned/pruned.safetensors --dataset cifar10 --epochs 40 --lr 0.01 --save logs/refined

  A minute on the digits that come with the project:
    slim train -sr --s 5e-3 --dataset digits --arch vgg --cfg \"[32, 'M', 64, 'M', 128, 128]\" --epochs 10

  Prune while training; a network that is trained already; and with a teacher:
    slim train --gradual 0.7 --dataset cifar10 --save logs/gradual
    slim train --growing 0.7 --refine logs/dense/model_best.safetensors --epochs 40 --lr 0.01 --save logs/growing
    slim train --refine logs/gradual/checkpoint.safetensors --teacher logs/dense/model_best.safetensors --epochs 40 --lr 0.01 --save logs/refined

  Go on after Ctrl-C, a crash, or a night; the file says the rest:
    slim train --resume logs/sparse/checkpoint.safetensors

  In four processes, which start again when one dies:
    torchrun --standalone --nproc-per-node=4 --max-restarts=3 --no-python -- slim train -sr --dataset cifar10

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set, 130 interrupted";

const NEEDS_TRAINED: &str = "--growing chooses channels before the first step, so it needs a network that is trained: say --refine FILE";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Watching")]
struct WatchOptions {
    /// Share of channels that will be pruned: each epoch's line says if γ show a gap there, and the
    /// end warns where they show none [default: 0.5 with -sr]
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["gradual", "growing"])]
    percent: Option<f64>,
    /// Batches between two lines, where there is no terminal for a progress bar
    #[arg(long, value_name = "N", default_value_t = 100)]
    log_interval: usize,
}

/// Everything that a training run starts from.
struct Start {
    model: Model,
    data: DataSet,
    recipe: Recipe,
    resume: Option<Resume>,
    /// Folder for the run's files.
    folder: PathBuf,
    /// Description for the first line of output.
    text: String,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let dist = processes::join(&options.device)?;
    run_among(&dist, options).map_err(|error| {
        let ends_with_all = !dist.is_main() && error.is::<Interrupted>();
        if ends_with_all {
            return error.context(ReportedElsewhere);
        }
        processes::reported_once(&dist, error)
    })
}

/// Trains as one of the processes. Only rank 0 reads and writes files, and prints. Collective.
fn run_among(dist: &Distributed, options: &Options) -> Result<()> {
    let job = Launch::from_env()?.and_then(|launch| launch.job());
    let Start { mut model, data, recipe, resume, folder, text } =
        start(options, dist, job.as_deref())?;
    let output = Output {
        folder: Some(folder.clone()),
        quiet: false,
        log_interval: options.watch.log_interval,
        percent: options.watch.percent.or((recipe.sparsity > 0.).then_some(0.5)),
        interrupt: Interrupt::on_signals()?,
        job,
    };

    let parameters: usize = model.vs.trainable_variables().iter().map(Tensor::numel).sum();
    let device = dist.device();
    let name = model.dataset.map(|name| name.to_string()).unwrap_or_default();
    let processes = match dist.world_size() {
        1 => String::new(),
        several => format!(", in {several} processes"),
    };
    let say = |line: Arguments<'_>| {
        if dist.is_main() {
            terminal::say(line);
        }
    };
    say(format_args!(
        "{text}: {}, {} parameters, on {device:?}{processes}",
        model.spec,
        grouped(parameters as i64)
    ));
    say(format_args!(
        "{name}: {} images for training, {} for testing",
        data.train.len(),
        data.test.len()
    ));
    say(format_args!("{}", said(&recipe)));
    let outcome =
        train_among(dist, &mut model, &data, &recipe, &output, resume).map_err(with_the_way_on)?;
    say(format_args!(
        "trained {} epochs in {:.0} s: accuracy {:.2} %, at best {:.2} %; wrote {}",
        outcome.epochs,
        outcome.time.as_secs_f64(),
        outcome.score.accuracy(),
        outcome.best,
        folder.display()
    ));
    if let Some(slimmed) = model.slimmed.as_ref().filter(|_| recipe.prunes()) {
        // Without batch norms, a cfg has no widths.
        match model.spec.arch.has_batch_norms() {
            true => say(format_args!("pruned to {}", slimmed.cfg())),
            false => say(format_args!("pruned: channels {}", slimmed.plan().channels())),
        }
    }
    if dist.is_main() {
        for warning in outcome.warnings {
            eprintln!("warning: {warning}");
        }
    }
    Ok(())
}

/// Adds the option that resumes training to the error of an interrupted run.
fn with_the_way_on(error: Error) -> Error {
    match error.downcast_ref().and_then(|Interrupted { checkpoint, .. }| checkpoint.as_deref()) {
        Some(file) => {
            let way = format!("`--resume {}` goes on from here", quoted(file));
            error.context(way)
        }
        None => error,
    }
}

/// Loads the network and the data set. The network is read first, since its file may name the data
/// set that it was trained on. Collective.
fn start(options: &Options, dist: &Distributed, job: Option<&str>) -> Result<Start> {
    let device = dist.device();
    let files = dist.together(read(options, dist, job))?;
    let Read { network, folder, options: files } = files;
    let network = dist.together(hand_over(dist, network))?;
    let (model, resume) = network.map_or((None, None), |(model, resume)| (Some(model), resume));
    let loaded = || -> Result<Start> {
        let noted = model.as_ref().and_then(|model| model.dataset);
        let name = options.data.name(noted)?;
        if let (Some(noted), Some(_)) = (noted, &resume) {
            ensure!(
                noted == name,
                "training goes on as it began: on {noted}, and not on {name}; leave out --dataset"
            );
        }
        let data = options.data.load(name, device)?;

        let default = Recipe::default();
        let before = resume.as_ref().map_or(&default, Resume::recipe);
        let mut model = match model {
            Some(model) => model,
            None => options.network.fresh(
                data.classes,
                options.recipe.seed.unwrap_or(before.seed),
                device,
            )?,
        };
        model.dataset = Some(name);
        ensure!(
            options.pruning.growing.is_none() || resume.is_some() || options.files.refine.is_some(),
            Usage(NEEDS_TRAINED.to_owned())
        );
        let recipe = options.recipe.applied_to(before, model.spec.arch);
        let recipe = options.distillation.applied_to(options.pruning.applied_to(recipe))?;
        let text = match (&files.resume, &resume, &files.refine) {
            (Some(file), Some(resume), _) => resumed(file, resume, &recipe),
            (.., Some(file)) => refined(file, &model),
            _ => "a new network".to_owned(),
        };
        Ok(Start { model, data, recipe, resume, folder, text })
    };
    let start = dist.together(loaded())?;
    dist.broadcast(&start.model.vs)?;
    Ok(start)
}

/// What rank 0 reads; nothing in the other processes.
struct Read {
    network: Option<(Model, Option<Resume>)>,
    folder: PathBuf,
    /// The files that training begins or goes on with.
    options: FileOptions,
}

fn read(options: &Options, dist: &Distributed, job: Option<&str>) -> Result<Read> {
    // A data set that the options name is looked up before any other work.
    options.data.dataset.map(|said| options.data.name(Some(said))).transpose()?;
    if !dist.is_main() {
        let (folder, options) = (PathBuf::new(), FileOptions::default());
        return Ok(Read { network: None, folder, options });
    }
    let (files, wanted) = (options.files.of_job(job)?, options.network.wanted());
    let network = match (&files.resume, &files.refine) {
        (Some(file), _) => {
            let (model, resume) = Resume::read(file, &wanted, dist.device())?;
            Some((model, Some(resume)))
        }
        (None, Some(file)) => Some((Model::read(file, &wanted, dist.device())?, None)),
        (None, None) => None,
    };
    let folder = files.folder()?;
    Ok(Read { network, folder, options: files })
}

fn resumed(file: &Path, resume: &Resume, recipe: &Recipe) -> String {
    let (epoch, step) = resume.progress();
    let before = resume.recipe().epochs;
    let mut text = format!("going on with epoch {epoch}, step {step}, of {}", file.display());
    if before != recipe.epochs {
        text += &format!(
            " ({} epochs instead of {before}: the learning rate now follows the new number)",
            recipe.epochs
        );
    }
    text
}

fn refined(file: &Path, model: &Model) -> String {
    match &model.slimmed {
        Some(slimmed) => format!("fine-tuning {}, pruned to {}", file.display(), slimmed.cfg()),
        None => format!("fine-tuning {}, which is not pruned", file.display()),
    }
}

fn said(recipe: &Recipe) -> String {
    let sparsity = match recipe.sparsity {
        0. => "without sparsity".to_owned(),
        sparsity => format!("with sparsity {sparsity}{}", penalty(recipe)),
    };
    let pruning = match recipe {
        Recipe { gradual, growing: 0., .. } if *gradual > 0. => {
            let every = recipe.gradual_every;
            format!(", pruning {gradual} of the channels, masks every {every} steps")
        }
        Recipe { growing, growing_factor, .. } if *growing > 0. => {
            format!(
                ", pruning {growing} of the channels, under a penalty that grows to {growing_factor}"
            )
        }
        _ => String::new(),
    };
    let teacher = recipe.teacher.as_ref().map_or_else(String::new, |file| {
        format!(
            ", taught by {} (temperature {}, weight {})",
            file.display(),
            recipe.temperature,
            recipe.distill_weight
        )
    });
    let decay = if recipe.decay_bn { "" } else { " but of γ and β" };
    format!(
        "{} epochs {sparsity}, lr {}, batch {}, momentum {}, weight decay {}{decay}, seed {}{pruning}{teacher}",
        recipe.epochs,
        recipe.lr,
        recipe.batch_size,
        recipe.momentum,
        recipe.weight_decay,
        recipe.seed
    )
}

/// How the penalty differs from an L1 penalty that is on from the first step.
fn penalty(recipe: &Recipe) -> String {
    let kind = match recipe.penalty {
        PenaltyName::L1 => None,
        PenaltyName::L2 => Some("L2".to_owned()),
        PenaltyName::GroupLasso => Some("group lasso".to_owned()),
    };
    let proximal = recipe.proximal.then(|| "proximal".to_owned());
    let epochs = |name: &str, epochs: usize| (epochs > 0).then(|| format!("{name} {epochs}"));
    let words: Vec<_> =
        [kind, proximal, epochs("warm-up", recipe.warm_up), epochs("ramp", recipe.ramp)]
            .into_iter()
            .flatten()
            .collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}
