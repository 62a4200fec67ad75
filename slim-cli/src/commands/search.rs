//! Searches the ratio of each layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};
use clap::ArgGroup;
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use slim_runtime::{Change, Prunable, Search, Sensitivity};

use crate::measure::{self, MeasureOptions, Measured, Saved, Stopped, of_another_run};
use crate::options::Usage;
use crate::prune::latency;
use crate::slimming::{BudgetOptions, TARGET};
use crate::terminal::{quoted, say};
use crate::train::Interrupt;

const EXAMPLES: &str = "\
Examples:
  Half of the multiply-accumulates, then pruned and fine-tuned:
    slim search --model logs/sparse/checkpoint.safetensors --macs 0.5 --save logs/search
    slim prune --model logs/sparse/checkpoint.safetensors --slimming logs/search/slimming.json --save logs/pruned
    slim train --refine logs/pruned/pruned.safetensors --save logs/refined

  Half of the latency, measured with batch norms that fit each network:
    slim search --model checkpoint.safetensors --latency 0.5 --latency-table latency.json --recalibrate --save out

  Starting from what `slim sensitivity` measured, too:
    slim search --model checkpoint.safetensors --params 0.4 --sensitivity logs/sensitivity/sensitivity.json --save out

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set, 130 interrupted";

/// Search the share of each layer's channels that goes, so that the pruned network is most accurate
/// within a budget.
///
/// An evolutionary search: each individual is a ratio for each layer, and its value the accuracy of
/// the pruned network before fine-tuning. The first generation has the ratios that `slim prune`
/// would choose, and the result is never less accurate on these images. Into --save go search.json
/// (the search, after each evaluation) and slimming.json (the best ratios so far, for `slim prune
/// --slimming`). The same command goes on from there, and finds the same as without an interruption;
/// with more --generations, it searches further.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new(TARGET).required(true).multiple(false))]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim search --help")]
pub(super) struct Options {
    #[command(flatten, next_help_heading = "Budget (one of these)")]
    budget: BudgetOptions,

    /// Number of generations after the first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(..=1_000_000), help_heading = "Search")]
    generations: usize,
    /// Number of individuals in a generation, of which three quarters are new
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(2..=65536), help_heading = "Search")]
    population: usize,
    /// Measurements of `slim sensitivity` on this network, for another start
    #[arg(long, value_name = "FILE", help_heading = "Search")]
    sensitivity: Option<PathBuf>,

    #[command(flatten)]
    measure: MeasureOptions,
}

impl Options {
    /// Checks what clap does not.
    fn check(&self) -> Result<()> {
        let Some(table) = self.budget.latency_table() else { return Ok(()) };
        let save = self.measure.save();
        let refuse = |reason: String| Err(Usage(reason).into());
        if !self.budget.is_latency() {
            return refuse("--latency-table is for --latency: leave it out".to_owned());
        }
        let absolute = |file: &Path| std::path::absolute(file).ok();
        let is_written = |name: &&str| absolute(table) == absolute(&save.join(name));
        match [FILE, FOUND].into_iter().find(is_written) {
            Some(name) => refuse(format!(
                "--latency-table is {name} in --save, which the search writes: name another file"
            )),
            None => Ok(()),
        }
    }
}

/// The file of the search.
const FILE: &str = "search.json";
/// The file of the best ratios.
const FOUND: &str = "slimming.json";

pub(super) fn run(options: &Options) -> Result<()> {
    let interrupt = Interrupt::on_signals()?;
    options.check()?;
    let mut measured = options.measure.set_up()?;
    measured.run.population = Some(options.population);
    measured.run.sensitivity.clone_from(&options.sensitivity);
    let file = options.measure.save().join(FILE);
    // A folder of another run is refused before anything is timed.
    let saved = measured.saved::<Search>(&file)?;
    let cost = measured.cost()?;
    let image = measured.blank()?;
    let table = options.budget.latency_table();
    let table = table.map(|file| latency::table(file, &measured.model.net, &image)).transpose()?;
    let timed = || table.clone().context("--latency has a table");
    let budget = options.budget.slimming(|| Ok(cost.clone()), timed)?;
    let slimming = options.measure.ranked(budget, &measured)?;
    let mut fresh = Search::new(&measured.model.net, &slimming)
        .map_err(|error| measured.model.explained(error))?
        .population(options.population)
        .seed(options.measure.seed());
    if let Some(file) = &options.sensitivity {
        let saved = measure::read::<Sensitivity>(file)?;
        fresh = fresh.suggested_by(&saved.state).with_context(|| file.display().to_string())?;
    }
    let mut search = match saved {
        None => fresh,
        Some(saved) => {
            ensure!(saved.slimming() == fresh.slimming(), of_another_run(&file));
            saved.ranked_by(fresh.slimming())
        }
    };
    let folder = options.measure.folder()?;
    let Measured { mut model, images, run } = measured;
    let save = |search: &Search| {
        let mut draft = folder.draft()?;
        let saved = Saved { run: run.clone(), state: search };
        draft.text(FILE, &(serde_json::to_string_pretty(&saved)? + "\n"))?;
        if let Some(found) = search.found() {
            draft.text(FOUND, &(serde_json::to_string_pretty(&found)? + "\n"))?;
        }
        draft.publish()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} generations, {msg}, {eta} left");
    let bar = ProgressBar::new(1 + options.generations as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_position(search.history().len() as u64);
    let before = search.evaluations();
    let mut complete = search.history().len();
    search.run_with(
        &mut model.net,
        options.generations,
        |net| images.accuracy(net),
        |search| {
            save(search)?;
            let best = search.best().and_then(|best| best.value).unwrap_or_default();
            bar.set_message(format!("{} evaluations, best {best:.2} %", search.evaluations()));
            if search.history().len() > complete {
                complete = search.history().len();
                bar.set_position(complete as u64);
                let line = format!(
                    "generation {}: best {best:.2} %, after {} evaluations",
                    complete - 1,
                    search.evaluations()
                );
                bar.suspend(|| say(line));
            }
            match interrupt.asked() && complete <= options.generations {
                true => {
                    let evaluations = search.evaluations();
                    Err(Error::new(Stopped { evaluations, file: file.clone() }))
                }
                false => Ok(()),
            }
        },
    )?;
    bar.finish_and_clear();
    // An earlier run may have been killed between the two files.
    save(&search)?;
    let found = search.found().context("nothing was measured")?;
    let plan = model.net.plan(&found)?;
    say(format_args!("{search}\nparameters  {}", plan.parameters()));
    if let (Ok(before), Ok(after)) = (cost.macs(), cost.after(&plan)?.macs()) {
        say(format_args!("MACs        {}", Change { before, after }));
    }
    if let Some(table) = table {
        let before = latency::measured(&model.net, &image)?;
        model.net.apply(&plan)?;
        let after = latency::measured(&model.net, &image)?;
        say(format_args!("\n{}\n", table.check(&plan, &before, &after)?));
    }
    say(format_args!(
        "{} evaluations; wrote {FILE} and {FOUND} into {}; next: slim prune --model {} --slimming {}{}",
        search.evaluations() - before,
        options.measure.save().display(),
        quoted(options.measure.model()),
        quoted(&folder.file(FOUND)),
        options.measure.for_prune()
    ));
    Ok(())
}
