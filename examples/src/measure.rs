//! How long a forward pass takes, and how large a file is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tch::Tensor;
use tch::nn::ModuleT;

/// Median time of a forward pass on `images` in evaluation mode.
pub fn latency<M: ModuleT>(model: &M, images: &Tensor) -> Duration {
    let _no_grad = tch::no_grad_guard();
    let pass = || {
        let start = Instant::now();
        let output = model.forward_t(images, false);
        // Fetching a value waits for the device.
        let _ = output.double_value(&[0, 0]);
        start.elapsed()
    };
    (0..5).for_each(|_| {
        pass();
    });
    let mut times: Vec<_> = (0..31).map(|_| pass()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Size of a file in kilobytes (1,000 bytes).
///
/// # Errors
/// It cannot be read.
pub fn kilobytes(path: &Path) -> Result<f64> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    Ok(bytes as f64 / 1000.)
}
