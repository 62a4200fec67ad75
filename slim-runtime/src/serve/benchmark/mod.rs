//! Measures how long a forward pass takes: one function for a network, and its parts for anything
//! else.

mod against;
mod in_turn;
mod input;
mod latency;

use std::time::Duration;

use tch::nn::ModuleT;
use tch::{Device, Kind};

use crate::analysis;
use crate::error::CheckError;
use crate::numeric::compare::is_float;
use crate::numeric::{Clock, Quartiles, device_name};
use crate::{Error, Prunable, Result};
pub use against::Speedup;
pub use in_turn::faster;
pub use in_turn::{Compared, Interleaved};
pub(crate) use input::uniform;
pub use latency::Latency;
pub use latency::with_spread;

/// Measures the latency of a forward pass on random input of this shape, batch first.
///
/// The network runs in evaluation mode and without gradients, on the device of its first tensor and
/// in its kind. After a warm-up, it runs for a second and a half, but at least 15 times. On a GPU,
/// each run waits for the device. The input is the same every time, and the generators that
/// training draws from are left alone.
///
/// ```
/// use slim_runtime::{Prunable, benchmark, model, nn};
/// use tch::Device;
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
///         bn1 = batch_norm(32);
///         relu;
///         conv2 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
///         bn2 = batch_norm(32);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(32 => 10);
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// let dense = benchmark(&net, [1, 3, 32, 32])?;
/// net.slim(0.5)?;
/// let slimmed = benchmark(&net, [1, 3, 32, 32])?;
/// println!("{slimmed}"); // 211 µs (208–219), 6904 runs, batch 1, cpu, 2 threads
/// println!("{}", slimmed.against(&dense)); // 520 µs → 211 µs, 2.5 times as fast
/// # assert_eq!((slimmed.batch, slimmed.device.as_str()), (Some(1), "cpu"));
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// Use a [`Benchmark`] for a network with several inputs, or for another pass than `forward_t`. Two
/// networks that are alive at once are best measured [in turn](Benchmark::in_turn).
///
/// # Errors
/// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for an invalid shape, for a
/// network without a tensor of floats, and when `forward_t` panics, with its message;
/// [`Error::Torch`].
pub fn benchmark<M: ModuleT + Prunable + ?Sized>(
    net: &M,
    shape: impl AsRef<[i64]>,
) -> Result<Latency> {
    let shape = shape.as_ref();
    let (device, kind) = place(net)?;
    let input = uniform(shape, device, kind)?;
    Benchmark { batch: shape.first().copied(), ..Benchmark::new().device(device) }
        .measure(|| net.forward_t(&input, false))
}

/// The device and kind that a network computes on: those of its first tensor of floats.
fn place<M: Prunable + ?Sized>(net: &M) -> Result<(Device, Kind)> {
    let (tensors, traced) = analysis::tensors(net);
    let first = tensors.iter().find(|(_, tensor)| is_float(tensor.kind()));
    match first {
        Some((_, tensor)) => Ok((tensor.device(), tensor.kind())),
        None => {
            traced?;
            let reason = "the network has no tensor of floats, so nothing says where it runs; use `Benchmark::new().measure(…)`";
            Err(Error::Check(CheckError::Benchmark { reason: reason.to_owned() }))
        }
    }
}

/// The settings of a measurement: how often, how long, and on which device.
///
/// ```
/// use std::time::Duration;
///
/// use slim_runtime::Benchmark;
/// use tch::{Device, Tensor};
///
/// let (left, right) = (Tensor::ones([64, 64], tch::kind::FLOAT_CPU), Tensor::ones([64, 64], tch::kind::FLOAT_CPU));
/// let quick = Benchmark::new().device(Device::Cpu).warm_up(Duration::from_millis(50)).time(Duration::from_millis(50));
/// let product = quick.measure(|| left.matmul(&right))?;
/// println!("{product}");
/// assert!(product.runs >= 15);
///
/// assert_eq!(quick.runs(3).measure(|| left.matmul(&right))?.runs, 3);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Benchmark {
    device: Device,
    batch: Option<i64>,
    warm_up: Duration,
    time: Duration,
    runs: Option<usize>,
}

impl Default for Benchmark {
    fn default() -> Self {
        Self::new()
    }
}

impl Benchmark {
    /// More runs do not make the median more accurate.
    const MOST_RUNS: usize = 10_000;
    /// Quartiles need this many runs, however slow they are.
    const LEAST_RUNS: usize = 15;

    /// A measurement on the CPU, for a second and a half but at least 15 runs, after a warm-up of
    /// at most a second.
    pub fn new() -> Self {
        Self {
            device: Device::Cpu,
            batch: None,
            warm_up: Duration::from_secs(1),
            time: Duration::from_millis(1500),
            runs: None,
        }
    }

    /// Sets the device that does the work: the clock starts and stops when it has nothing left to
    /// do.
    #[must_use]
    pub fn device(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Sets the number of samples per run, for the report.
    #[must_use]
    pub fn batch(self, samples: i64) -> Self {
        Self { batch: Some(samples), ..self }
    }

    /// Sets the longest warm-up. It ends earlier when three runs in a row are not faster, by 2 %,
    /// than the best run before them. There is always at least one run.
    #[must_use]
    pub fn warm_up(self, most: Duration) -> Self {
        Self { warm_up: most, ..self }
    }

    /// Sets how long each case is measured: at least 15 runs.
    #[must_use]
    pub fn time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Measures this many runs, however long they take.
    #[must_use]
    pub fn runs(self, runs: usize) -> Self {
        Self { runs: Some(runs), ..self }
    }

    /// Measures `pass`, without gradients. Its result is dropped after the clock has stopped.
    ///
    /// # Errors
    /// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) when `pass` panics, with its
    /// message, and when the number of runs is 0.
    pub fn measure<T>(&self, mut pass: impl FnMut() -> T) -> Result<Latency> {
        self.check()?;
        let _no_grad = tch::no_grad_guard();
        let clock = Clock::new(self.device);
        Clock::warm_up(|| clock.time(&mut pass), self.warm_up)?;
        let mut times = Vec::new();
        let mut spent = Duration::ZERO;
        while self.wants_more(times.len(), spent, 1) {
            let time = clock.time(&mut pass)?;
            spent += time;
            times.push(time.as_secs_f64());
        }
        Ok(self.latency(&times))
    }

    /// Measures several cases in turn, round by round, so that other load on the machine affects
    /// all of them alike.
    ///
    /// ```
    /// use slim_runtime::Benchmark;
    /// use tch::{Kind, Tensor};
    ///
    /// let (wide, narrow) = (Tensor::ones([256, 256], tch::kind::FLOAT_CPU), Tensor::ones([64, 64], tch::kind::FLOAT_CPU));
    /// let compared = Benchmark::new()
    ///     .runs(15)
    ///     .in_turn()
    ///     .case("wide", || wide.matmul(&wide))
    ///     .case("narrow", || narrow.matmul(&narrow))
    ///     .run()?;
    /// println!("{compared}");
    /// let faster = compared.times_as_fast("narrow", "wide").unwrap(); // the ratio in each round: its median and quartiles
    /// assert!(faster.median > 1.);
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    pub fn in_turn<'c>(&self) -> Interleaved<'c> {
        Interleaved::new(*self)
    }

    fn check(&self) -> Result<()> {
        match self.runs {
            Some(0) => Err(Error::Check(CheckError::Benchmark {
                reason: "0 runs have no median; ask for at least 1".to_owned(),
            })),
            _ => Ok(()),
        }
    }

    /// Whether `cases` cases that have had this many runs each and have taken `spent` together need
    /// another run each.
    fn wants_more(&self, runs: usize, spent: Duration, cases: u32) -> bool {
        match self.runs {
            Some(wanted) => runs < wanted,
            None => {
                runs < Self::LEAST_RUNS
                    || (runs < Self::MOST_RUNS && spent < self.time.saturating_mul(cases))
            }
        }
    }

    fn latency(&self, times: &[f64]) -> Latency {
        Latency {
            seconds: Quartiles::of(times),
            runs: times.len(),
            batch: self.batch,
            device: device_name(self.device),
            threads: tch::get_num_threads(),
        }
    }
}
