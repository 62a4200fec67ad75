//! Which numbers of channels a device is fast at: measured, not guessed.

mod choice;
mod convolutions;
mod report;

use std::time::Duration;

use serde::Serialize;
use tch::{Device, Kind};

use crate::numeric::Quartiles;
use crate::serve::benchmark::{Benchmark, device_name};
use crate::{Bounds, Result, Slimming};
use convolutions::Convolutions;

/// What is tried: no larger one is an alignment of a vector unit, a tensor core or a cache line.
const MULTIPLES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// How long each is measured: with the warm-up, all of them take about a second and a half.
const TIME: Duration = Duration::from_millis(180);

/// Measures to which multiple of channels a slimmed network is best rounded on this device.
///
/// What slimming leaves of a layer is any number of channels, and kernels are fast at some. To
/// round up costs arithmetic and memory, and may still be faster. So convolutions of 1×1 and 3×3
/// are timed whose widths are awkward, as what is left of 64 to 512 channels is, and rounded up to
/// each of 1, 2, 4, … 64, in turn, for about a second and a half. Of these the multiple is chosen
/// whose convolutions take the least time together, with what rounding adds to them; a larger one
/// than 1 only where it is faster by more than the noise.
///
/// It depends on the machine, on libtorch's [number of threads](tch::set_num_threads), and a little
/// on what else runs, so a plan keeps the number that came out, not the question.
/// [`Slimming::round_for`] is both in one. The batch is 1 on the CPU and 32 on a GPU.
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
/// [`Error::Torch`](crate::Error::Torch) when there is no such device, or it has no convolutions of
/// this kind.
pub fn preferred_multiple(device: Device, kind: Kind) -> Result<PreferredMultiple> {
    let mut turns = Benchmark::new().device(device).warm_up(TIME / 8).time(TIME).in_turn();
    let mut works = Vec::new();
    for multiple in MULTIPLES {
        let convolutions = Convolutions::rounded_to(multiple, device, kind)?;
        works.push(convolutions.macs());
        // The first pass shows whether it can be done at all.
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

/// To which multiple of channels a slimmed network is best rounded on a device, and what shows it;
/// made by [`preferred_multiple`]. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PreferredMultiple {
    /// The one that was chosen.
    pub multiple: usize,
    /// What was measured, by multiple.
    pub tried: Vec<Measurement>,
    /// `cpu`, or `cuda:0`.
    pub device: String,
    /// `float`, or `half`.
    pub kind: String,
    /// How many threads libtorch computes on.
    pub threads: i32,
}

/// Convolutions whose widths are rounded up to a multiple.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Measurement {
    /// Of how many channels.
    pub multiple: usize,
    /// How many times as many multiply-accumulates they take as those that are not rounded.
    pub work: f64,
    /// What they take together, in seconds.
    pub seconds: Quartiles,
    /// How many times as fast as those that are not rounded, round by round.
    pub times_as_fast: Quartiles,
}

impl Slimming {
    /// Rounds up, as [`round_to`](Self::round_to) does, to the multiple that is measured to be the
    /// best for this device: see [`preferred_multiple`], which this calls.
    ///
    /// What the slimming and its plan keep is the number, so a plan is the same wherever it is
    /// carried out. Where rounding does not pay, nothing is rounded. (It is not `round_to_device`:
    /// what is rounded to is a number of channels, and the device is whom it is for.)
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
