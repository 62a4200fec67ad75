//! Benchmark for rounding: measures a network of the zoo before slimming and slimmed to several
//! multiples of channels, in interleaved runs.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use slim_cli::device::DeviceOptions;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Spec};
use slim_cli::numbers::grouped;
use slim_runtime::{Benchmark, Prunable, Slimming, preferred_multiple};
use tch::nn::ModuleT;
use tch::{Kind, Tensor};

/// Measure which multiple of channels this device is fast at, and a network that is slimmed to
/// several.
#[derive(Parser)]
#[command(name = "rounding")]
struct Options {
    /// The network.
    #[arg(long, default_value = "resnet50")]
    arch: Arch,
    /// Share of the channels to remove.
    #[arg(long, default_value_t = 0.5)]
    percent: f64,
    /// Images at a time.
    #[arg(long, default_value_t = 1)]
    batch: i64,
    /// Multiples to measure beside the preferred one.
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,32")]
    multiples: Vec<usize>,
    #[command(flatten)]
    device: DeviceOptions,
}

fn main() -> Result<()> {
    let Options { arch, percent, batch, mut multiples, device } = Options::parse();
    let device = device.set_up()?;
    let preferred = preferred_multiple(device, Kind::Float)?;
    println!("{preferred}\n");
    multiples.push(preferred.multiple);
    multiples.sort_unstable();
    multiples.dedup();

    let spec = Spec::new(arch, None, None, Spec::CLASSES)?;
    let [channels, height, width] = spec.image();
    let images = Tensor::f_rand([batch, channels, height, width], (Kind::Float, device))?;
    let slimmed = |multiple| {
        tch::manual_seed(0);
        let mut model = Model::new(spec.clone(), device)?;
        model.draw_scales();
        let slimmed = if multiple == 0 {
            None
        } else {
            Some(model.net.apply(&model.net.plan(&Slimming::ratio(percent).round_to(multiple))?)?)
        };
        let parameters: usize = model.vs.trainable_variables().iter().map(Tensor::numel).sum();
        let name = if slimmed.is_some() { format!("to {multiple}") } else { "dense".to_owned() };
        Ok::<_, anyhow::Error>((
            format!("{name}, {} parameters", grouped(parameters as i64)),
            model,
        ))
    };
    let models = [0].into_iter().chain(multiples).map(slimmed).collect::<Result<Vec<_>>>()?;
    let turns = Benchmark::new().device(device).batch(batch).time(Duration::from_secs(3)).in_turn();
    let turns = models.iter().fold(turns, |turns, (name, model)| {
        turns.case(name, || model.net.forward_t(&images, false))
    });
    println!("{spec}, {:.0} % of the channels removed\n{}", 100. * percent, turns.run()?);
    Ok(())
}
