//! Measures which widths a device is fast at.

mod choice;
mod convolutions;
mod report;

use std::time::Duration;

use serde::Serialize;
use tch::{Device, Kind};

use crate::numeric::{Quartiles, device_name};
use crate::serve::benchmark::Benchmark;
use crate::{Bounds, Result, Slimming};
use convolutions::Convolutions;

/// The multiples to try. No vector unit, tensor core or cache line has a larger alignment.
const MULTIPLES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Time per multiple: with the warm-up, all of them take about a second and a half.
const TIME: Duration = Duration::from_millis(180);

/// Measures to which multiple of channels a slimmed network is best rounded on this device.
///
/// Slimming leaves any number of channels in a layer, and kernels are fast only at some numbers.
/// Rounding up costs arithmetic and memory, and may still be faster. So this function times 1×1 and
/// 3×3 convolutions of awkward widths, such as slimming leaves of 64 to 512 channels, rounded up to
/// each of 1, 2, 4, … 64, in turn, for about a second and a half. It chooses the multiple whose
/// convolutions take the least time in total, including the work that rounding adds; a multiple
/// above 1 only if it is faster by more than the noise.
///
/// The result depends on the machine, on libtorch's [number of threads](tch::set_num_threads), and
/// a little on what else runs, so a plan stores the resulting number. [`Slimming::round_for`]
/// measures and rounds in one call. The batch is 1 on the CPU and 32 on a GPU.
///
/// ```
/// use slim_runtime::preferred_multiple;
/// use tch::{Device, Kind};
///
/// # tch::set_num_threads(1); // other tests run beside this one
/// let preferred = preferred_multiple(Device::Cpu, Kind::Float)?;
/// println!("{preferred}"); // a table of what was measured, and what is best
/// assert!(64 % preferred.multiple == 0);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) when the device does not exist, or has no convolutions of
/// this kind.
pub fn preferred_multiple(device: Device, kind: Kind) -> Result<PreferredMultiple> {
    let mut turns = Benchmark::new().device(device).warm_up(TIME / 8).time(TIME).in_turn();
    let mut works = Vec::new();
    for multiple in MULTIPLES {
        let convolutions = Convolutions::rounded_to(multiple, device, kind)?;
        works.push(convolutions.macs());
        // The first pass shows whether the device can run them at all.
        convolutions.run()?;
        turns = turns.case(multiple.to_string(), move || convolutions.run());
    }
    let compared = turns.run()?;
    let tried = MULTIPLES.iter().enumerate().map(|(index, &multiple)| Measurement {
        multiple,
        work: works[index] / works[0],
        seconds: compared.cases[index].1.seconds,
        times_as_fast: compared.ratio(index, 0),
    });
    Ok(PreferredMultiple {
        multiple: MULTIPLES
            [choice::choose(MULTIPLES.len(), |case, other| compared.ratio(case, other))],
        tried: tried.collect(),
        device: device_name(device),
        kind: format!("{kind:?}").to_lowercase(),
        threads: tch::get_num_threads(),
    })
}

/// The multiple of channels that a slimmed network is best rounded to on a device, with the
/// measurements; made by [`preferred_multiple`]. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PreferredMultiple {
    /// The chosen multiple.
    pub multiple: usize,
    /// The measurements, by multiple.
    pub tried: Vec<Measurement>,
    /// `cpu`, or `cuda:0`.
    pub device: String,
    /// `float`, or `half`.
    pub kind: String,
    /// Number of threads that libtorch computes on.
    pub threads: i32,
}

/// The measurement of the convolutions whose widths are rounded up to one multiple.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Measurement {
    /// The multiple.
    pub multiple: usize,
    /// Multiply-accumulates, relative to the convolutions that are not rounded.
    pub work: f64,
    /// Time of all convolutions together, in seconds.
    pub seconds: Quartiles,
    /// How many times as fast as the convolutions that are not rounded: the ratio in each round.
    pub times_as_fast: Quartiles,
}

impl Slimming {
    /// Rounds up, as [`round_to`](Self::round_to) does, to the multiple that [`preferred_multiple`]
    /// measures to be the best for this device.
    ///
    /// The slimming and its plan store the number, so a plan is the same wherever it is carried
    /// out. If rounding does not pay, nothing is rounded.
    ///
    /// ```
    /// use slim_runtime::Slimming;
    /// use tch::{Device, Kind};
    ///
    /// # tch::set_num_threads(1); // other tests run beside this one
    /// let slimming = Slimming::ratio(0.5).round_for(Device::Cpu, Kind::Float)?;
    /// # assert!(slimming.bounds.round_to.is_none_or(|rounding| 64 % rounding.multiple == 0));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`preferred_multiple`].
    pub fn round_for(self, device: Device, kind: Kind) -> Result<Self> {
        Ok(match preferred_multiple(device, kind)?.multiple {
            1 => Self { bounds: Bounds { round_to: None, ..self.bounds }, ..self },
            multiple => self.round_to(multiple),
        })
    }
}
