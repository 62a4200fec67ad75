//! A clock that waits for the device.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tch::{Cuda, Device, Kind, Tensor};

use crate::panics::caught;
use crate::{Error, Result};

/// A run that is faster than the best before it by more than this says that things are still
/// warming up.
const STILL_WARMING: f64 = 0.98;

/// So many runs in a row that are not say that they are warm.
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
    /// [`Error::Benchmark`] when it panics.
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
        timed.map_err(|message| Error::Benchmark { reason: format!("it panics: {message}") })
    }

    /// Runs until caches are filled, kernels are chosen and clocks are up, at most about as long as
    /// `most`.
    ///
    /// # Errors
    /// Those of [`time`](Self::time).
    pub(crate) fn warm_up<T>(&self, run: &mut impl FnMut() -> T, most: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut best = self.time(run)?.as_secs_f64();
        let mut no_faster = 0;
        while no_faster < WARM && begun.elapsed() < most {
            let time = self.time(run)?.as_secs_f64();
            no_faster = if time < STILL_WARMING * best { 0 } else { no_faster + 1 };
            best = best.min(time);
        }
        Ok(())
    }

    /// Returns when the device has done what it was given.
    fn wait(&self) {
        match self.device {
            Device::Cpu => {}
            Device::Cuda(index) => Cuda::synchronize(index as i64),
            // tch has no call for these; work is done in order, so a value that is fetched waits
            // for all before it.
            Device::Mps | Device::Vulkan => {
                let _ = Tensor::zeros([1], (Kind::Float, self.device)).double_value(&[0]);
            }
        }
    }
}
