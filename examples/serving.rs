//! Exports a slimmed network of the zoo (ResNet-50 by default) as TorchScript and as ONNX. Also
//! writes a sample input and its outputs, which `examples/python/serve.py`, `check_onnx.py` and
//! `examples/onnx_runtime.rs` compare with.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::{Prunable, export};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

/// Slim a network of the zoo, whose γ are drawn, and write ARCH.pt, ARCH.onnx, and
/// ARCH.safetensors with a sample and its outputs.
#[derive(Parser)]
#[command(name = "serving")]
struct Options {
    /// The network.
    #[arg(long, default_value = "resnet50")]
    arch: Arch,
    /// Share of the channels to remove.
    #[arg(long, default_value_t = 0.5)]
    percent: f64,
    /// Images in the sample.
    #[arg(long, default_value_t = 2)]
    batch: i64,
    /// The folder to write into.
    #[arg(long, default_value = "target/serving")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Options { arch, percent, batch, out } = Options::parse();
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    tch::manual_seed(0);
    let mut model = Model::new(Spec::new(arch, None, None, Spec::CLASSES)?, Device::Cpu)?;
    model.draw_scales();
    let [channels, height, width] = model.spec.image();
    model.net.slim(percent)?;

    let images = Tensor::f_rand([batch, channels, height, width], (Kind::Float, Device::Cpu))?;
    let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);
    let file = |kind: &str| out.join(format!("{arch}.{kind}"));
    println!("{}", export::torch_script(file("pt"), &model.net, &images, forward)?);
    println!("{}", export::onnx(file("onnx"), &model.net, &[&[channels, height, width]])?);

    let output = tch::no_grad(|| forward(&model.net, &images));
    let beside = file("safetensors");
    Tensor::write_safetensors(&[("input", &images), ("output", &output)], &beside)?;
    println!("wrote {} with its sample and outputs", beside.display());
    Ok(())
}
