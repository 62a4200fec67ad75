//! Trains, prunes and fine-tunes a network in several passes.

use std::path::{Path, PathBuf};

use crate::data::DataSet;
use crate::device::DeviceOptions;
use crate::files::Folder;
use crate::model::{Model, Wanted};
use crate::network::Arch;
use crate::numbers::{grouped, percent};
use crate::options::{DataOptions, NetworkOptions};
use crate::passes::PruningSchedule;
use crate::prune::{Job, Pruning, Stage};
use crate::report::{Report, Stage as Shown};
use crate::slimming::SlimmingOptions;
use crate::terminal::{self, say};
use crate::train::{
    self, Interrupt, Interrupted, Outcome, Output, Recipe, RecipeOptions, Resume, Score, train,
};
use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;
use comfy_table::Table;
use slim_runtime::Change;
use tch::Device;

const EXAMPLES: &str = "\
Examples:
  The paper's scheme, half of what is left in each of three passes:
    slim iterate --dataset cifar10 --arch vgg --depth 19 --percent 0.5 --passes 3 --save passes

  90 % of the original's channels in five passes, most of them at first:
    slim iterate --dataset cifar10 --arch vgg --target 0.9 --pace cubic --passes 5 --save passes

Into --save goes report.html, with the stages of all passes. Each pass has a folder there, with the files of `slim train` (pass-1/train), of `slim prune` (pass-1/prune) and of `slim train --refine` (pass-1/refine).
What was interrupted goes on by the same command.

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set, 130 interrupted";

/// Help of the option for sparsity, which `slim iterate` always has.
const SPARSITY: &str = "\
Train with channel sparsity (-sr). Implied: each pass trains with it, and fine-tunes without";

/// Prune in several passes: train with sparsity, prune, fine-tune, and again from there (Network
/// Slimming's multi-pass scheme).
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim iterate --help", mut_arg("sr", |sr| sr.help(SPARSITY)))]
pub(super) struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    data: DataOptions,

    /// Number of passes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Passes")]
    passes: usize,
    /// Share of the original's channels that is gone in the end [default: what --percent of each
    /// pass comes to]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, conflicts_with_all = ["percent", "threshold", "top_k", "params", "macs", "latency"], help_heading = "Passes")]
    target: Option<f64>,
    /// How --target is spread over the passes
    #[arg(long, value_enum, requires = "target", default_value_t = PruningSchedule::Constant, help_heading = "Passes")]
    pace: PruningSchedule,
    /// Epochs of fine-tuning after each pass [default: as many as of training]
    #[arg(long, value_name = "N", help_heading = "Passes")]
    refine_epochs: Option<usize>,
    /// Learning rate of fine-tuning at first [default: as of training]
    #[arg(long, value_name = "LR", help_heading = "Passes")]
    refine_lr: Option<f64>,

    #[command(flatten)]
    slimming: SlimmingOptions,
    #[command(flatten)]
    recipe: RecipeOptions,

    /// Folder for what is written
    #[arg(long, value_name = "DIR", default_value = "passes")]
    save: PathBuf,
    /// Batches between two lines, where there is no terminal for a progress bar
    #[arg(long, value_name = "N", default_value_t = 100)]
    log_interval: usize,
    #[command(flatten)]
    device: DeviceOptions,
}

impl Options {
    /// The recipes of training and of fine-tuning.
    pub(super) fn recipes(&self, arch: Arch) -> [Recipe; 2] {
        let training = self.recipe.applied_to(&Recipe::default(), arch);
        let refining = Recipe {
            sparsity: 0.,
            epochs: self.refine_epochs.unwrap_or(training.epochs),
            lr: self.refine_lr.unwrap_or(training.lr),
            // Another seed, so that fine-tuning does not repeat the order of training.
            seed: !training.seed,
            ..training.clone()
        };
        [training, refining]
    }
}

/// Options, data and recipes that all passes share.
struct Passes<'o> {
    options: &'o Options,
    data: DataSet,
    device: Device,
    training: Recipe,
    refining: Recipe,
    interrupt: Interrupt,
}

/// A network from a checkpoint, and the state of its training.
type Progress = (Model, Resume);

/// Results of one pass.
struct Pass {
    trained: Outcome,
    pruning: Pruning,
    refined: Outcome,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let device = options.device.set_up()?;
    let name = options.data.name(None)?;
    let data = options.data.load(name, device)?;
    let ratios = match options.target {
        Some(target) => {
            options.pace.shares(target, options.passes)?.into_iter().map(Some).collect()
        }
        None => vec![options.slimming.ratio(); options.passes],
    };
    let seed = options.recipe.seed.unwrap_or(Recipe::default().seed);
    let mut model = options.network.fresh(data.classes, seed, device)?;
    model.dataset = Some(name);

    let [training, refining] = options.recipes(model.spec.arch);
    say(format_args!("{}, {} passes on {name}, on {device:?}", model.spec, options.passes));
    let passes =
        Passes { options, data, device, training, refining, interrupt: Interrupt::on_signals()? };
    passes.rehearse(&model, &ratios)?;
    let mut done = Vec::new();
    for (number, ratio) in ratios.into_iter().enumerate() {
        done.push(passes.pass(&mut model, number + 1, ratio)?);
    }
    say(format_args!("\n{}", table(&done).trim_fmt()));
    let folder = Folder::new(&options.save)?;
    let mut draft = folder.draft()?;
    draft.text("report.html", &report(&model, &done)?)?;
    draft.publish()
}

impl Passes<'_> {
    /// Checks the options before hours of training, by planning each pass for an untrained network.
    fn rehearse(&self, model: &Model, ratios: &[Option<f64>]) -> Result<()> {
        self.training.check()?;
        self.refining.check().context("fine-tuning")?;
        ratios.iter().try_for_each(|&ratio| self.job().rehearse(&model.spec, ratio))
    }

    fn job(&self) -> Job<'_> {
        Job {
            slimming: &self.options.slimming,
            found: None,
            data: Some(&self.data),
            test: true,
            test_batch_size: self.training.test_batch_size,
            seed: self.training.seed,
            device: self.device,
        }
    }

    /// Trains with sparsity, prunes, and fine-tunes. `ratio` is the share of the remaining channels
    /// to remove; `None` prunes as the options say.
    fn pass(&self, model: &mut Model, number: usize, ratio: Option<f64>) -> Result<Pass> {
        let folder = self.options.save.join(format!("pass-{number}"));
        say(format_args!("\n== pass {number}: train"));
        let progress = self.progress(model, &folder.join("train"), &self.training)?;
        let trained = self.stage(model, &folder.join("train"), &self.training, progress, ratio)?;

        say(format_args!("\n== pass {number}: prune"));
        let pruning = self.job().prune(model, ratio)?;
        // Check that the checkpoint belongs to this run before `save` replaces the files of an
        // earlier run.
        let progress = self.progress(model, &folder.join("refine"), &self.refining)?;
        say(&pruning);
        pruning.save(model, &Folder::new(&folder.join("prune"))?, &[])?;

        say(format_args!("\n== pass {number}: fine-tune"));
        let refined = self.stage(model, &folder.join("refine"), &self.refining, progress, None)?;
        Ok(Pass { trained, pruning, refined })
    }

    /// The checkpoint of an earlier run that was interrupted, if there is one.
    ///
    /// # Errors
    /// The checkpoint is of another network, another pruning or another number of epochs.
    fn progress(&self, model: &Model, folder: &Path, recipe: &Recipe) -> Result<Option<Progress>> {
        let file = folder.join(train::CHECKPOINT);
        if !file.exists() {
            return Ok(None);
        }
        let (there, resume) = Resume::read(&file, &Wanted::default(), self.device)?;
        // Another number of epochs would give another network than the one that was pruned
        // afterwards.
        let is_the_same = there.spec == model.spec
            && there.slimmed == model.slimmed
            && resume.recipe().epochs == recipe.epochs;
        ensure!(
            is_the_same,
            "{} is of another run, with other options: choose another --save",
            file.display()
        );
        Ok(Some((there, resume)))
    }

    /// Trains the network, or resumes from `progress`. `watched` is the ratio at which the network
    /// will be pruned.
    fn stage(
        &self,
        model: &mut Model,
        folder: &Path,
        recipe: &Recipe,
        progress: Option<Progress>,
        watched: Option<f64>,
    ) -> Result<Outcome> {
        let output = Output {
            folder: Some(folder.to_owned()),
            log_interval: self.options.log_interval,
            interrupt: self.interrupt.clone(),
            percent: watched,
            ..Output::default()
        };
        let resume = progress.map(|(there, resume)| {
            *model = there;
            resume
        });
        let outcome =
            train(model, &self.data, recipe, &output, resume).map_err(|error| match error
                .is::<Interrupted>(
            ) {
                true => error.context("the same command goes on from here"),
                false => error,
            })?;
        outcome.warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
        say(format_args!(
            "{} epochs in {:.0} s: accuracy {:.2} %",
            outcome.epochs,
            outcome.time.as_secs_f64(),
            outcome.score.accuracy()
        ));
        Ok(outcome)
    }
}

/// The report on the last pass, with the stages of all passes.
fn report(model: &Model, done: &[Pass]) -> Result<String> {
    let last = done.last().context("there was no pass")?;
    let stages =
        done.iter().enumerate().flat_map(|(number, Pass { trained, pruning, refined })| {
            let [dense, _, slimmed] = &pruning.stages;
            let stage = |name: &str, score: Option<Score>, like: &Stage| Shown {
                name: format!("{name} {}", number + 1),
                accuracy: score.map(|score| score.accuracy()),
                parameters: like.parameters,
                macs: like.macs,
            };
            [
                stage("trained", Some(trained.score), dense),
                stage("slimmed", slimmed.score, slimmed),
                stage("fine-tuned", Some(refined.score), slimmed),
            ]
        });
    let report = Report {
        title: format!("{}, pruned in {} passes", model.spec, done.len()),
        stages: stages.collect(),
        ..last.pruning.report(model)
    };
    report.html()
}

/// Table with one row per pass: accuracies, and the channels, parameters and MACs that are left.
fn table(done: &[Pass]) -> Table {
    let mut table = terminal::table([
        "pass",
        "trained",
        "slimmed",
        "fine-tuned",
        "channels",
        "parameters",
        "MACs",
    ]);
    for (number, pass) in done.iter().enumerate() {
        let [_, _, slimmed] = &pass.pruning.stages;
        let plan = &pass.pruning.plan;
        let accuracy = |score: Option<Score>| {
            score.map_or_else(String::new, |score| format!("{:.2} %", score.accuracy()))
        };
        let left = |change: Change| {
            format!("{} ({})", grouped(change.after), percent(1. - change.removed()))
        };
        table.add_row([
            (number + 1).to_string(),
            accuracy(Some(pass.trained.score)),
            accuracy(slimmed.score),
            accuracy(Some(pass.refined.score)),
            left(plan.channels()),
            left(plan.parameters()),
            slimmed.macs.map_or_else(String::new, grouped),
        ]);
    }
    table
}
