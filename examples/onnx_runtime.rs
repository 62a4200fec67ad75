//! Runs an ONNX file of slim in ONNX Runtime, without libtorch and without this workspace's crates.
//!
//! `cargo run -p slim-onnx-example -- target/serving/resnet50.onnx` compares the outputs with those
//! in `resnet50.safetensors` beside it, which the example `serving` writes. ONNX Runtime is the
//! library that `ORT_DYLIB_PATH` names: that of `cargo xtask setup --onnxruntime`, by default.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use ort::session::Session;
use ort::value::TensorRef;
use safetensors::{Dtype, SafeTensors};

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let file = file.context("usage: onnx_runtime FILE.onnx, with FILE.safetensors beside it")?;
    let sample = file.with_extension("safetensors");
    let bytes = fs::read(&sample).with_context(|| format!("cannot read {}", sample.display()))?;
    let sample = SafeTensors::deserialize(&bytes)?;
    let (shape, input) = floats(&sample, "input")?;
    let (_, expected) = floats(&sample, "output")?;

    let library = std::env::var_os("ORT_DYLIB_PATH")
        .context("set `ORT_DYLIB_PATH` to the path of libonnxruntime.so")?;
    let environment = ort::init_from(&library)
        .map_err(|error| {
            anyhow!("{}: {error}; `cargo xtask setup --onnxruntime`", library.display())
        })?
        .build()?;
    let mut session = Session::builder(&environment)?.commit_from_file(&file)?;

    let mut run = || -> Result<(Vec<f32>, f64)> {
        let input = TensorRef::from_array_view((shape.clone(), &input[..]))?;
        let start = Instant::now();
        let outputs = session.run(ort::inputs![input])?;
        let seconds = start.elapsed().as_secs_f64();
        Ok((outputs[0].try_extract_tensor::<f32>()?.1.to_vec(), seconds))
    };
    let (output, _) = run()?;
    ensure!(output.len() == expected.len(), "{} outputs, not {}", output.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0., f32::max);
    let difference = largest(&mut output.iter().zip(&expected).map(|(a, b)| a - b));
    let magnitude = largest(&mut expected.iter().copied());
    // A comparison that is false for NaN, too.
    ensure!(
        difference <= 1e-3 * magnitude,
        "outputs (up to {magnitude:.3}) differ by {difference:.1e}"
    );
    let mut times = (0..10).map(|_| Ok(run()?.1)).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    println!(
        "ONNX Runtime: outputs (up to {magnitude:.3}) differ from libtorch's by {difference:.1e} at most; {:.1} ms for input {shape:?}",
        times[times.len() / 2] * 1e3
    );
    Ok(())
}

/// Shape and values of a tensor in single precision.
fn floats(sample: &SafeTensors, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = sample.tensor(name)?;
    ensure!(tensor.dtype() == Dtype::F32, "`{name}` is {:?}, not F32", tensor.dtype());
    let (values, _) = tensor.data().as_chunks();
    Ok((tensor.shape().to_vec(), values.iter().map(|&value| f32::from_le_bytes(value)).collect()))
}
