//! Runs the rows: trains, searches, prunes, repairs and fine-tunes, with the functions behind `slim
//! train`, `slim search` and `slim prune`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;
use slim_cli::commands;
use slim_cli::data::{self, DataSet, Name};
use slim_cli::model::{Model, Wanted};
use slim_cli::options::NetworkOptions;
use slim_cli::prune::{Job, Pruning};
use slim_cli::slimming::SlimmingOptions;
use slim_cli::terminal::say;
use slim_cli::train::{
    CHECKPOINT, Interrupt, Output, Recipe, RecipeOptions, Resume, evaluate, train,
};
use slim_runtime::{Slimmed, Slimming};
use tch::Device;

use super::results::Measured;
use super::rows::{Choice, Limits, PERCENT, REFINE, REFINE_SHORT, Row, SEED, Training};

/// Where rows are run, and on what.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The data set, and its folder.
    pub dataset: Name,
    /// The folder of the data set.
    pub data_dir: PathBuf,
    /// The folder for checkpoints.
    pub work: PathBuf,
    /// The Python with PyTorch.
    pub python: OsString,
    /// The script that runs the reference procedure.
    pub script: PathBuf,
    /// Number of threads.
    pub threads: u16,
    /// Trains one epoch each time, to see that everything runs.
    pub smoke: bool,
}

/// Runs rows.
#[allow(missing_debug_implementations)] // a data set has none
pub struct Runs {
    setup: Setup,
    data: DataSet,
    interrupt: Interrupt,
}

/// Options of `slim train`, as a row has them.
#[derive(Parser)]
struct TrainOptions {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
}

/// Options of `slim prune`, as a row has them.
#[derive(Parser)]
struct PruneOptions {
    #[command(flatten)]
    slimming: SlimmingOptions,
}

fn parsed<T: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<T> {
    Ok(T::try_parse_from(std::iter::once("slim".into()).chain(words))?)
}

/// Options as words of a command line.
fn words(options: &str) -> Vec<OsString> {
    options.split_whitespace().map(Into::into).collect()
}

/// The repairs, by the name of their column, and their options of `slim prune`.
const REPAIRS: [(&str, &str); 5] = [
    ("slimmed", ""),
    ("absorbed", "--absorb"),
    ("recalibrated", "--recalibrate"),
    ("reconstructed", "--reconstruct"),
    ("reconstructed and recalibrated", "--reconstruct --recalibrate"),
];

/// Images of a forward pass that tests.
const TEST_BATCH: usize = 256;

impl Runs {
    /// Loads the data set.
    ///
    /// # Errors
    /// A data set that is missing or damaged.
    pub fn new(setup: Setup) -> Result<Self> {
        setup.dataset.check(&setup.data_dir)?;
        tch::set_num_threads(i32::from(setup.threads));
        let data = data::load(setup.dataset, &setup.data_dir, Device::Cpu)?;
        Ok(Self { setup, data, interrupt: Interrupt::on_signals()? })
    }

    /// Measures a row. Training that was stopped goes on where it was.
    ///
    /// # Errors
    /// An interrupt, and errors of training and pruning.
    pub fn measure(&self, row: &Row) -> Result<Measured> {
        let begun = Instant::now();
        let measured = match *row {
            Row::PyTorch { seed } => self.pytorch(seed)?,
            Row::Procedure { training, seed, .. } => self.procedure(training, seed)?,
            Row::Method { training, choice, budget, limits, .. } => {
                let share = budget.share();
                let budget = match limits {
                    Limits::Macs => words(&format!("--macs {share}")),
                    Limits::Latency => {
                        let table = self.folder(&format!("{}.latency.json", training.name));
                        let share = words(&format!("--latency {share} --latency-table"));
                        [share, vec![table.into()]].concat()
                    }
                };
                self.method(&row.to_string(), training, choice, budget)?
            }
        };
        Ok(Measured { minutes: begun.elapsed().as_secs_f64() / 60., ..measured })
    }

    /// The reference procedure in PyTorch.
    fn pytorch(&self, seed: u64) -> Result<Measured> {
        /// What the script writes.
        #[derive(Deserialize)]
        struct Written {
            dense: f64,
            masked: f64,
            slimmed: f64,
            refined: f64,
            parameters: f64,
            dense_parameters: f64,
        }
        let Setup { python, script, data_dir, work, threads, .. } = &self.setup;
        let save = work.join(format!("pytorch-{seed}"));
        let status = Command::new(python)
            .arg(script)
            .args(["--seed", &seed.to_string(), "--threads", &threads.to_string(), "--data"])
            .arg(data_dir)
            .arg("--save")
            .arg(&save)
            .status()
            .context("python3 does not run")?;
        ensure!(status.success(), "PyTorch's side failed: {status}");
        let written: Written =
            serde_json::from_str(&fs::read_to_string(save.join("result.json"))?)?;
        let accuracies = [
            ("dense", written.dense),
            ("masked", written.masked),
            ("slimmed", written.slimmed),
            ("refined", written.refined),
        ];
        Ok(Measured {
            accuracies: accuracies.map(|(name, value)| (name.to_owned(), value)).into(),
            parameters: written.parameters / written.dense_parameters,
            macs: None,
            latency: None,
            minutes: 0.,
        })
    }

    /// Train with sparsity, prune, fine-tune.
    fn procedure(&self, training: Training, seed: u64) -> Result<Measured> {
        let mut model = self.trained(training, seed)?;
        let pruning = self.prune(&mut model, words(PERCENT), None, true)?;
        let mut accuracies = BTreeMap::new();
        for stage in &pruning.stages {
            let score = stage.score.context("the stages were measured")?;
            accuracies.insert(stage.name.to_owned(), score.accuracy());
        }
        let folder = self.folder(&format!("{}-{seed}-refined", training.name));
        accuracies.insert("refined".to_owned(), self.refine(model, &folder, REFINE, seed)?);
        Ok(measured(accuracies, &pruning))
    }

    /// One way to choose channels: the accuracy with each repair, and after fine-tuning.
    fn method(
        &self,
        name: &str,
        training: Training,
        choice: Choice,
        budget: Vec<OsString>,
    ) -> Result<Measured> {
        let (options, found) = match choice {
            Choice::Ranking(options) => ([words(options), budget].concat(), None),
            Choice::Search(options) => {
                let options = [words(options), budget].concat();
                (Vec::new(), Some(self.search(name, training, options)?))
            }
        };
        let mut accuracies = BTreeMap::new();
        let mut plain = None;
        for (column, repair) in REPAIRS {
            let mut model = self.trained(training, SEED)?;
            if accuracies.is_empty() {
                accuracies.insert("dense".to_owned(), self.accuracy(&model)?);
            }
            let options = options.iter().cloned().chain(words(repair));
            let pruning = self.prune(&mut model, options, found.as_ref(), false)?;
            let accuracy = self.accuracy(&model)?;
            say(format_args!("{name}, {column}: {accuracy:.2} %"));
            accuracies.insert(column.to_owned(), accuracy);
            plain.get_or_insert((model, pruning));
            ensure!(!self.interrupt.asked(), "interrupted; the same command goes on with this row");
        }
        let (model, pruning) = plain.context("there is a row without repair")?;
        let folder = self.folder(&format!("method-{}", name.replace('/', "-")));
        accuracies.insert("refined".to_owned(), self.refine(model, &folder, REFINE_SHORT, SEED)?);
        Ok(measured(accuracies, &pruning))
    }

    /// The ratios that `slim search` finds. A search that was stopped goes on where it was.
    fn search(
        &self,
        name: &str,
        training: Training,
        options: impl IntoIterator<Item = OsString>,
    ) -> Result<Slimming> {
        let Training { name: trained, .. } = training;
        self.trained(training, SEED)?;
        let save = self.folder(&format!("search-{}", name.replace('/', "-")));
        let mut arguments = words("slim search --no-cuda");
        arguments.extend(options);
        arguments.extend(["--dataset".into(), self.setup.dataset.to_string().into()]);
        let paths = [
            ("--data-dir", self.setup.data_dir.clone()),
            ("--model", self.folder(&format!("{trained}-{SEED}")).join(CHECKPOINT)),
            ("--save", save.clone()),
        ];
        arguments.extend(paths.into_iter().flat_map(|(name, path)| [name.into(), path.into()]));
        if self.setup.smoke {
            arguments.extend(words("--generations 0 --population 2 --images 64"));
        }
        commands::run(arguments)?;
        Ok(serde_json::from_str(&fs::read_to_string(save.join("slimming.json"))?)?)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.setup.work.join(name)
    }

    /// A network that is trained by these options. What was trained before is read.
    fn trained(&self, training: Training, seed: u64) -> Result<Model> {
        let Training { name, network, recipe } = training;
        let TrainOptions { network, recipe } = parsed([words(network), words(recipe)].concat())?;
        let folder = self.folder(&format!("{name}-{seed}"));
        let mut fresh = network.fresh(self.data.classes, seed, Device::Cpu)?;
        fresh.dataset = Some(self.setup.dataset);
        self.train(fresh, &folder, &recipe, seed).map(|(model, _)| model)
    }

    /// Fine-tunes a slimmed network, and returns its accuracy.
    fn refine(&self, model: Model, folder: &Path, recipe: &str, seed: u64) -> Result<f64> {
        let TrainOptions { recipe, .. } = parsed(words(recipe))?;
        self.train(model, folder, &recipe, seed).map(|(_, accuracy)| accuracy)
    }

    /// Trains a network, or goes on from the checkpoint in the folder. Returns the
    /// network and its accuracy, which is read if training had ended before.
    fn train(
        &self,
        fresh: Model,
        folder: &Path,
        recipe: &RecipeOptions,
        seed: u64,
    ) -> Result<(Model, f64)> {
        let checkpoint = folder.join(CHECKPOINT);
        let mut recipe = recipe.applied_to(&Recipe { seed, ..Recipe::default() }, fresh.spec.arch);
        if self.setup.smoke {
            recipe.epochs = 1;
        }
        let (mut model, resume) = match checkpoint.exists() {
            true => {
                let (model, resume) = Resume::read(&checkpoint, &Wanted::default(), Device::Cpu)?;
                let widths = |model: &Model| model.slimmed.as_ref().map(Slimmed::cfg);
                ensure!(
                    (&model.spec, widths(&model), resume.recipe())
                        == (&fresh.spec, widths(&fresh), &recipe),
                    "{} is of another network or recipe: remove it, or choose another --work",
                    checkpoint.display()
                );
                (model, Some(resume))
            }
            false => (fresh, None),
        };
        if resume.as_ref().is_some_and(|resume| resume.progress() == (recipe.epochs, 0)) {
            let accuracy = self.accuracy(&model)?;
            return Ok((model, accuracy));
        }
        say(format_args!("training {}, {} epochs", folder.display(), recipe.epochs));
        let output = Output {
            folder: Some(folder.to_owned()),
            interrupt: self.interrupt.clone(),
            ..Output::default()
        };
        let outcome = train(&mut model, &self.data, &recipe, &output, resume)?;
        Ok((model, outcome.score.accuracy()))
    }

    /// The accuracy of a network on the test images, in percent.
    fn accuracy(&self, model: &Model) -> Result<f64> {
        Ok(evaluate(&model.net, &*self.data.test, TEST_BATCH)?.accuracy())
    }

    /// Prunes a network by options of `slim prune`, or by a slimming in place of those that say how
    /// much goes.
    fn prune(
        &self,
        model: &mut Model,
        options: impl IntoIterator<Item = OsString>,
        found: Option<&Slimming>,
        test: bool,
    ) -> Result<Pruning> {
        let PruneOptions { slimming } = parsed(options)?;
        let job = Job {
            slimming: &slimming,
            found,
            data: Some(&self.data),
            test,
            test_batch_size: TEST_BATCH,
            seed: SEED,
            device: Device::Cpu,
        };
        job.prune(model, None)
    }
}

fn measured(accuracies: BTreeMap<String, f64>, pruning: &Pruning) -> Measured {
    let [dense, _, slimmed] = &pruning.stages;
    let share = |after: i64, before: i64| after as f64 / before.max(1) as f64;
    let macs = slimmed.macs.zip(dense.macs).map(|(after, before)| share(after, before));
    let parameters = share(slimmed.parameters, dense.parameters);
    let latency = pruning.latency.as_ref().map(|check| [check.predicted.share(), check.share()]);
    Measured { accuracies, parameters, macs, latency, minutes: 0. }
}
