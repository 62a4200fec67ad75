//! The device of the tests, which `SLIM_DEVICE` selects.

use std::io::Write;
use std::sync::LazyLock;

use slim_cli::device;
use tch::kind::Element;
use tch::{Device, Tensor};

/// The variable that keeps the CUDA libraries from using TF32. They read it once, when they are
/// loaded, and tch has no call for it.
const TF32: &str = "NVIDIA_TF32_OVERRIDE";

/// The device of the models and tensors of tests: the one in `SLIM_DEVICE` (`cuda`, `cuda:1`), or
/// else the CPU.
///
/// If that device cannot be used, the test program ends at once, with one line and code 2:
/// otherwise hundreds of tests would fail for this reason alone.
pub fn device() -> Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        chosen().unwrap_or_else(|reason| {
            // Not `eprintln!`, which libtest captures until the test has failed.
            let _ = writeln!(std::io::stderr(), "\nerror: {reason}");
            std::process::exit(2)
        })
    });
    *DEVICE
}

/// A tensor of these values, on the device of the tests.
pub fn tensor<T: Element>(values: &[T]) -> Tensor {
    Tensor::from_slice(values).to_device(device())
}

fn chosen() -> Result<Device, String> {
    let device = device::from_env().map_err(|error| error.to_string())?.unwrap_or(Device::Cpu);
    match std::env::var(TF32).as_deref() {
        Ok("0") => Ok(device),
        _ if device == Device::Cpu => Ok(device),
        _ => Err(format!(
            "on a GPU the tests compare to the precision of f32, which TF32 does not have: set {TF32}=0 as well, as `cargo xtask test` does"
        )),
    }
}
