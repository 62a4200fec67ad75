//! Measures how much accuracy absorption, recalibration and reconstruction save before fine-tuning:
//! a VGG is trained on digits once per seed, and slimmed at several ratios in six ways.

use anyhow::Result;
use clap::Parser;
use comfy_table::Table;
use slim_cli::data::{Batch, DataSet, digits};
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_cli::terminal;
use slim_cli::train::{Output, Recipe, evaluate, train};
use slim_runtime::{Prunable, Reconstruction, Slimming, channels, recalibrate};
use tch::Device;
use tch::nn::ModuleT;

/// The size of the batches that statistics are estimated from. A smaller batch is left out, since
/// it would weigh as much.
const BATCH: usize = 64;

/// Train a VGG with channel sparsity on handwritten digits, and compare what it gets right before
/// fine-tuning.
#[derive(Parser)]
#[command(name = "repair")]
struct Options {
    /// Shares of channels to remove.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.6,0.7,0.8")]
    ratios: Vec<f64>,
    /// Seeds of initialisation and shuffling; the table has their mean.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Epochs of training with sparsity.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Factor of the L1 penalty on γ.
    #[arg(long, default_value_t = 5e-3)]
    sparsity: f64,
    /// One epoch and one ratio, to see that everything runs.
    #[arg(long)]
    smoke: bool,
}

/// The corrections that are applied in addition to slimming.
#[derive(Clone, Copy)]
struct Repair {
    name: &'static str,
    weights: Weights,
    recalibrate: bool,
}

/// What corrects weights and biases.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    Nothing,
    Absorption,
    Reconstruction,
}

const REPAIRS: [Repair; 6] = [
    Repair { name: "slimmed", weights: Weights::Nothing, recalibrate: false },
    Repair { name: "absorbed", weights: Weights::Absorption, recalibrate: false },
    Repair { name: "recalibrated", weights: Weights::Nothing, recalibrate: true },
    Repair { name: "both", weights: Weights::Absorption, recalibrate: true },
    Repair { name: "reconstructed", weights: Weights::Reconstruction, recalibrate: false },
    Repair { name: "and recalibrated", weights: Weights::Reconstruction, recalibrate: true },
];

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.smoke {
        (options.epochs, options.ratios) = (1, vec![0.5]);
    }
    let device = Device::cuda_if_available();
    let data = DataSet::from(digits::load(device)?);
    let cfg = channels![32, M, 64, M, 128, 128, M, 128, 128, M, 128, 128];
    let spec = Spec::new(Arch::Vgg, None, Some(cfg.clone()), data.classes)?;

    let mut dense = 0.;
    // Sums of accuracies over seeds, by ratio, then by repair.
    let mut sums = vec![[0.; REPAIRS.len()]; options.ratios.len()];
    for &seed in &options.seeds {
        tch::manual_seed(seed as i64);
        let mut model = Model::new(spec.clone(), device)?;
        let recipe = Recipe {
            epochs: options.epochs,
            sparsity: options.sparsity,
            seed,
            ..Recipe::default()
        };
        dense +=
            train(&mut model, &data, &recipe, &Output { quiet: true, ..Output::default() }, None)?
                .score
                .accuracy();
        for (sums, &ratio) in sums.iter_mut().zip(&options.ratios) {
            for (sum, repair) in sums.iter_mut().zip(REPAIRS) {
                *sum += repaired_accuracy(&model, &data, ratio, repair)?;
            }
        }
    }

    let seeds = options.seeds.len().max(1) as f64;
    println!(
        "VGG {cfg} on digits, {} epochs, mean of {seeds} seeds; dense {:.2} %\n",
        options.epochs,
        dense / seeds
    );
    println!("{}", table(&options.ratios, &sums, seeds).trim_fmt());
    Ok(())
}

/// Slims a replica of the model. Returns its accuracy before fine-tuning.
fn repaired_accuracy(model: &Model, data: &DataSet, ratio: f64, repair: Repair) -> Result<f64> {
    let mut replica = Model::new(model.spec.clone(), model.vs.device())?;
    replica.vs.copy(&model.vs)?;
    let mut replica = replica.net;
    let slimming = Slimming::ratio(ratio);
    let absorbs = repair.weights == Weights::Absorption;
    let plan = replica.plan(&if absorbs { slimming.absorb() } else { slimming })?;
    let batches: Vec<_> = data.train.batches(BATCH).collect::<Result<_>>()?;
    let batches: Vec<_> =
        batches.into_iter().filter(|batch| batch.labels.numel() == BATCH).collect();
    let run = |train: bool| {
        move |replica: &Net, Batch { images, .. }: &Batch| replica.forward_t(images, train)
    };
    if repair.weights == Weights::Reconstruction {
        Reconstruction::new().apply(&mut replica, &plan, &batches, run(false))?;
    } else {
        replica.apply(&plan)?;
    }
    if repair.recalibrate {
        recalibrate(&mut replica, &batches, |replica, batch| Ok(run(true)(replica, batch)))?;
    }
    Ok(evaluate(&replica, &*data.test, 256)?.accuracy())
}

fn table(ratios: &[f64], sums: &[[f64; REPAIRS.len()]], seeds: f64) -> Table {
    let names = REPAIRS.map(|repair| repair.name);
    let [a, b, c, d, e, f] = names;
    let mut table = terminal::table(["removed", a, b, c, d, e, f]);
    for (ratio, sums) in ratios.iter().zip(sums) {
        let accuracies = sums.iter().map(|sum| format!("{:.2} %", sum / seeds));
        table.add_row([format!("{:.0} %", 100. * ratio)].into_iter().chain(accuracies));
    }
    table
}
