//! A clock that waits for the device to finish its work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tch::{Cuda, Device, Kind, Tensor};

use crate::error::CheckError;
use crate::panics::caught;
use crate::{Error, Result};

/// A run that takes less than this share of the shortest time so far shows that the device is still
/// warming up.
const STILL_WARMING: f64 = 0.98;

/// Warm-up ends after this many runs in a row that are not faster.
const WARM: u32 = 3;

pub(crate) struct Clock {
    device: Device,
}

impl Clock {
    pub(crate) fn new(device: Device) -> Self {
        Self { device }
    }

    /// How long one run takes.
    ///
    /// # Errors
    /// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) when `run` panics.
    pub(crate) fn time<T>(&self, run: &mut impl FnMut() -> T) -> Result<Duration> {
        let timed = caught(|| {
            self.wait();
            let start = Instant::now();
            let result = black_box(run());
            self.wait();
            let time = start.elapsed();
            drop(result);
            time
        });
        timed.map_err(|message| {
            Error::Check(CheckError::Benchmark { reason: format!("it panics: {message}") })
        })
    }

    /// Repeats a run, which returns its duration, until caches are filled, kernels are chosen and
    /// clocks are up, but for about `most` at the longest.
    ///
    /// # Errors
    /// The errors of `run`.
    pub(crate) fn warm_up(mut run: impl FnMut() -> Result<Duration>, most: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut best = run()?.as_secs_f64();
        let mut no_faster = 0;
        while no_faster < WARM && begun.elapsed() < most {
            let time = run()?.as_secs_f64();
            no_faster = if time < STILL_WARMING * best { 0 } else { no_faster + 1 };
            best = best.min(time);
        }
        Ok(())
    }

    /// Waits until the device has finished the work that it was given.
    fn wait(&self) {
        match self.device {
            Device::Cpu => {}
            Device::Cuda(index) => Cuda::synchronize(index as i64),
            // tch has no call for these devices. They work in order, so fetching a value waits for
            // all earlier work.
            Device::Mps | Device::Vulkan => {
                let _ = Tensor::zeros([1], (Kind::Float, self.device)).double_value(&[0]);
            }
        }
    }
}

/// The name of a device as PyTorch writes it.
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}
