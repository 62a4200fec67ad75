//! Prunes a network from a file, as the reference's scripts do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::data::DataSet;
use crate::device::DeviceOptions;
use crate::files::{Folder, is_same};
use crate::model::Model;
use crate::network::Spec;
use crate::options::{DataOptions, FormOptions, NetworkOptions, Usage};
use crate::prune::{Job, PRUNED, STEM};
use crate::slimming::SlimmingOptions;
use crate::terminal::say;
use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use slim_runtime::Slimming;
use tch::Device;

const EXAMPLES: &str = "\
Examples:
  The reference's command, on CIFAR-10 in ./data:
    slim prune --arch vgg --depth 19 --dataset cifar10 --percent 0.7 --model logs/sparse/checkpoint.safetensors --save logs/pruned

  A network from torchvision, without data: half of the multiply-accumulates, in multiples of 8 channels
    slim prune --arch resnet50 --model resnet50.pth --no-test --macs 0.5 --round-to 8 --save pruned

  Half of the latency on one thread; the times of its layers go into a file, to be used again:
    slim prune --arch vgg --depth 19 --model vgg19.pth --no-test --threads 1 --latency 0.5 --latency-table latency.json --save pruned

  Again, after `slim train --refine`; the file says the rest:
    slim prune --model logs/refined/checkpoint.safetensors --percent 0.3 --save logs/again

Exit codes: 0 done, 1 failed, 2 wrong usage or no data set";

/// Prune a trained network by the γ of its batch norms (Network Slimming, ICCV 2017): threshold,
/// masks, cfg, weight surgery.
///
/// Reads .safetensors, .ot, and PyTorch's .pth and .pth.tar: a state_dict, one under a key, or the
/// reference's own {cfg, state_dict}. Nothing in a file is executed.
///
/// Into --save go prune.txt (the reference's: cfg, parameters, accuracy of the masked network),
/// plan.json (which channels of the original are left), pruned.safetensors (for train --refine, for
/// prune again, and for PyTorch, with the names of the input) and report.html. They appear
/// together: what goes wrong before leaves those of an earlier run as they were.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_long_help = EXAMPLES, after_help = "The manual, with examples: slim prune --help")]
pub(super) struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    /// The file with its weights [default: none, a network that nobody has trained]
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    model: Option<PathBuf>,

    #[command(flatten)]
    data: DataOptions,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Data")]
    test_batch_size: usize,
    /// Prune without measuring: no data set is needed
    #[arg(long, conflicts_with = "dataset", help_heading = "Data")]
    no_test: bool,

    #[command(flatten)]
    slimming: SlimmingOptions,
    /// A slimming from a file, as `slim search` writes it, in place of all options on which
    /// channels go and of all bounds; --absorb adds to it
    #[arg(long = "slimming", value_name = "FILE", conflicts_with_all = [
        "percent", "threshold", "top_k", "params", "macs", "latency", "local", "isomorphic",
        "layer", "keep", "criterion", "normalisation", "coupling", "masking", "at_least",
        "max_removed", "round_to", "round_down_to",
    ], help_heading = "How much goes (one of these)")]
    found: Option<PathBuf>,

    /// Folder for what is written
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Files")]
    save: PathBuf,
    #[command(flatten)]
    forms: FormOptions,
    /// Seed of what is drawn: a network without --model, the random criterion, the order of
    /// training images
    #[arg(long, default_value_t = 1, help_heading = "Data")]
    seed: u64,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let device = options.device.set_up()?;
    let (mut model, data) = start(options, device)?;
    let Options { slimming, test_batch_size, seed, .. } = options;
    let found = options.found.as_deref().map(read_slimming).transpose()?;
    let job = Job {
        slimming,
        found: found.as_ref(),
        data: data.as_ref(),
        test: true,
        test_batch_size: *test_batch_size,
        seed: *seed,
        device,
    };
    let checked = job.check(&model, None);
    match &options.found {
        Some(file) => checked.with_context(|| format!("--slimming {}", file.display()))?,
        None => checked?,
    }
    let folder = Folder::new(&options.save)?;
    let forms = options.forms.chosen();
    let written: Vec<_> =
        [PRUNED.to_owned()].into_iter().chain(forms.iter().map(|form| form.file(STEM))).collect();
    for name in &written {
        if options.model.as_deref().is_some_and(|model| is_same(model, &folder.file(name))) {
            return Err(Usage(format!(
                "{name} in --save would replace the file of --model: choose another folder"
            ))
            .into());
        }
    }

    let begun = Instant::now();
    let pruning = job.prune(&mut model, None)?;
    say(&pruning);
    pruning.save(&model, &folder, &forms)?;
    say(format_args!(
        "wrote prune.txt, plan.json, {} and report.html into {}, after {:.1} s altogether",
        written.join(", "),
        options.save.display(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Reads the slimming that a search has found. What it asks for is checked by planning.
fn read_slimming(file: &Path) -> Result<Slimming> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no slimming, such as `slim search` writes", file.display()))
}

/// Loads the network and the data set. The network is read first, since its file may name the data
/// set that it was trained on.
fn start(options: &Options, device: Device) -> Result<(Model, Option<DataSet>)> {
    // A data set that the options name is looked up before any other work.
    options.data.dataset.map(|said| options.data.name(Some(said))).transpose()?;
    let model = match &options.model {
        Some(file) => {
            let model = Model::read(file, &options.network.wanted(), device)?;
            let note = model.note.iter().map(|note| format!(" ({note})")).collect::<String>();
            say(format_args!("read {}: {}{note}", file.display(), model.spec));
            Some(model)
        }
        None => None,
    };
    let noted = model.as_ref().and_then(|model| model.dataset);
    if !options.no_test && options.data.dataset.or(noted).is_none() {
        return Err(Usage(
            "which data set? say --dataset, or --no-test to prune without one".to_owned(),
        )
        .into());
    }
    let name = if options.no_test { noted } else { Some(options.data.name(noted)?) };
    let data = name
        .filter(|_| !options.no_test)
        .map(|name| options.data.load(name, device))
        .transpose()?;
    let mut model = match model {
        Some(model) => model,
        None => {
            let model = options.network.fresh(
                data.as_ref().map_or(Spec::CLASSES, |data| data.classes),
                options.seed,
                device,
            )?;
            model.draw_scales();
            say(format_args!(
                "no --model: a fresh {}, which nobody has trained; γ are drawn from U(0, 1), so that something ranks the channels",
                model.spec
            ));
            model
        }
    };
    data.as_ref().map_or(Ok(()), |data| data.ensure_fits(&model.spec))?;
    model.dataset = name;
    Ok((model, data))
}
