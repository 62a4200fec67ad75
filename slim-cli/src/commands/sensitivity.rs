//! Measures how much a network depends on each layer.

use anyhow::{Error, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use slim_runtime::{Sensitivity, Slimming};

use crate::measure::{MeasureOptions, Measured, Saved, Stopped, of_another_run};
use crate::report::SensitivityReport;
use crate::terminal::say;
use crate::train::Interrupt;

const EXAMPLES: &str = "\
Examples:
  A network that `slim train` has trained, on 1000 of its training images:
    slim sensitivity --model logs/sparse/checkpoint.safetensors --save logs/sensitivity

  By the norms of the filters, at three ratios, on 5000 images:
    slim sensitivity --model checkpoint.safetensors --criterion l2 --ratios 0.25,0.5,0.75 --images 5000 --save out

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set, 130 interrupted";

/// Measure how accurate the network is without a share of the channels of one layer alone, for each
/// layer and several shares.
///
/// Layers whose channels stay or go together count as one. Channels are masked, not removed, and
/// nothing is trained. Into --save go sensitivity.json (for `slim search --sensitivity`) and
/// sensitivity.html, a page with a curve for each layer. The first is written after each
/// evaluation, and the same command goes on from there.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim sensitivity --help")]
pub(super) struct Options {
    /// Shares of the channels of a layer
    #[arg(
        long,
        value_name = "SHARES",
        value_delimiter = ',',
        default_value = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
        help_heading = "How much goes"
    )]
    ratios: Vec<f64>,

    #[command(flatten)]
    measure: MeasureOptions,
}

/// The file of the measurements.
const FILE: &str = "sensitivity.json";
/// The page about them.
const PAGE: &str = "sensitivity.html";

pub(super) fn run(options: &Options) -> Result<()> {
    let interrupt = Interrupt::on_signals()?;
    let measured = options.measure.set_up()?;
    // The target does not count.
    let slimming = options.measure.ranked(Slimming::ratio(0.5), &measured)?;
    let fresh = Sensitivity::new(&measured.model.net, &slimming, options.ratios.iter().copied())
        .map_err(|error| measured.model.explained(error))?;
    let file = options.measure.save().join(FILE);
    let mut sensitivity = match measured.saved::<Sensitivity>(&file)? {
        None => fresh,
        Some(saved) => {
            let is_the_same =
                saved.slimming() == fresh.slimming() && saved.ratios() == fresh.ratios();
            ensure!(is_the_same, of_another_run(&file));
            saved.ranked_by(fresh.slimming())
        }
    };
    let folder = options.measure.folder()?;
    let statistics = measured.statistics();
    let Measured { mut model, images, run } = measured;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} evaluations, {eta} left");
    let bar = ProgressBar::new(sensitivity.evaluations() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_position(sensitivity.measured() as u64);
    let before = sensitivity.measured();
    let save = |sensitivity: &Sensitivity, page: bool| {
        let mut draft = folder.draft()?;
        let saved = Saved { run: run.clone(), state: sensitivity };
        draft.text(FILE, &(serde_json::to_string_pretty(&saved)? + "\n"))?;
        if page {
            let report = SensitivityReport {
                title: format!("Sensitivity of {}", model.spec),
                what: vec![
                    ("network".to_owned(), model.spec.to_string()),
                    (
                        "measured on".to_owned(),
                        format!("{} training images of {}", run.images, run.dataset),
                    ),
                    ("batch norms".to_owned(), statistics.clone()),
                    ("ranked by".to_owned(), sensitivity.slimming().criterion.name()),
                ],
                sensitivity,
            };
            draft.text(PAGE, &report.html()?)?;
        }
        draft.publish()
    };
    sensitivity.resume_with(
        &mut model.net,
        |net| images.accuracy(net),
        |sensitivity| {
            save(sensitivity, false)?;
            bar.set_position(sensitivity.measured() as u64);
            match interrupt.asked() && !sensitivity.is_complete() {
                true => {
                    let evaluations = sensitivity.measured();
                    Err(Error::new(Stopped { evaluations, file: file.clone() }))
                }
                false => Ok(()),
            }
        },
    )?;
    bar.finish_and_clear();
    save(&sensitivity, true)?;
    say(&sensitivity);
    say(format_args!(
        "{} evaluations; wrote {FILE} and {PAGE} into {}",
        sensitivity.measured() - before,
        options.measure.save().display()
    ));
    Ok(())
}
