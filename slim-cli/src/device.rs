//! The device that programs compute on: from an option, or else from `SLIM_DEVICE`.

use std::env;

use anyhow::{Result, bail, ensure};
use clap::Args;
use tch::{Cuda, Device};

/// The environment variable that selects the device, as `--device` does. The tests read it too.
pub const VARIABLE: &str = "SLIM_DEVICE";

/// The options of a program that say where it computes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceOptions {
    /// Where to compute: cpu, cuda, cuda:1 [default: SLIM_DEVICE, or a GPU where there is one]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Compute on the CPU even where there is a GPU
    #[arg(long, conflicts_with = "device")]
    pub no_cuda: bool,
    /// Threads of libtorch; with 1, on the CPU, a run can be repeated to the bit [default: one a
    /// core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub threads: Option<i32>,
}

impl DeviceOptions {
    /// Selects the device, and sets the number of libtorch's threads.
    ///
    /// # Errors
    /// The name is not that of a device, or the device does not exist.
    pub fn set_up(&self) -> Result<Device> {
        self.threads.into_iter().for_each(tch::set_num_threads);
        match self.device.as_deref() {
            _ if self.no_cuda => Ok(Device::Cpu),
            None => Ok(from_env()?.unwrap_or_else(Device::cuda_if_available)),
            Some(name) => parse(&format!("--device {name}"), name, gpus()),
        }
    }
}

/// The device that the environment variable [`VARIABLE`] names; `None` if it is unset or empty.
///
/// # Errors
/// The name is not that of a device, or the device does not exist.
pub fn from_env() -> Result<Option<Device>> {
    let Some(name) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return Ok(None) };
    let name = name.to_string_lossy();
    parse(&format!("{VARIABLE}={name}"), &name, gpus()).map(Some)
}

fn gpus() -> usize {
    Cuda::device_count().try_into().unwrap_or(0)
}

/// Parses the device `name`. `said` is the user's text, for errors; `gpus` is the number of GPUs.
fn parse(said: &str, name: &str, gpus: usize) -> Result<Device> {
    let number = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => Some(0),
        Some(("cuda", number)) => number.parse().ok(),
        _ => None,
    };
    let Some(number) = number else {
        bail!("{said}: there are cpu, cuda, and cuda:N for the GPU of that number")
    };
    ensure!(
        gpus > 0,
        "{said}: libtorch finds no GPU here (or is not its CUDA build); leave it out, or say cpu"
    );
    ensure!(number < gpus, "{said}: the last GPU is cuda:{}", gpus - 1);
    Ok(Device::Cuda(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_there() -> Result<()> {
        assert_eq!(parse("", "cpu", 0)?, Device::Cpu);
        assert_eq!(parse("", "cuda", 1)?, Device::Cuda(0));
        assert_eq!(parse("", "cuda:2", 3)?, Device::Cuda(2));
        assert_eq!(DeviceOptions { no_cuda: true, ..Default::default() }.set_up()?, Device::Cpu);
        Ok(())
    }

    #[test]
    fn devices_that_are_not() {
        let said = |name, gpus| {
            parse(&format!("SLIM_DEVICE={name}"), name, gpus)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        insta::assert_snapshot!([said("gpu", 1), said("cuda:one", 1), said("cpu:0", 1), said("cuda", 0), said("cuda:2", 2)].join("\n"), @r"
        SLIM_DEVICE=gpu: there are cpu, cuda, and cuda:N for the GPU of that number
        SLIM_DEVICE=cuda:one: there are cpu, cuda, and cuda:N for the GPU of that number
        SLIM_DEVICE=cpu:0: there are cpu, cuda, and cuda:N for the GPU of that number
        SLIM_DEVICE=cuda: libtorch finds no GPU here (or is not its CUDA build); leave it out, or say cpu
        SLIM_DEVICE=cuda:2: the last GPU is cuda:1
        ");
    }
}
