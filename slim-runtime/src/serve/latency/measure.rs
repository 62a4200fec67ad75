//! Measures layer shapes at a grid of widths.

use std::collections::BTreeMap;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::{Entry, LatencyTable};
use crate::analysis::latency::{Conditions, TimedLayers, timed, unmeasured};
use crate::numeric::{Clock, Grid, LayerShape, Quartiles};
use crate::serve::benchmark::Benchmark;
use crate::serve::workload::{Layer, Workload};
use crate::{Error, Prunable, Result};

/// The version of libtorch, from its headers; see `build.rs`.
pub(super) const LIBTORCH: &str = match option_env!("SLIM_LIBTORCH") {
    Some(version) => version,
    None => "of unknown version",
};

/// The shares of a layer's own width at which it is measured, the most useful first.
const SHARES: [(u64, u64); 9] =
    [(1, 1), (1, 2), (1, 4), (3, 4), (1, 8), (3, 8), (1, 16), (1, 32), (1, 64)];

/// Each run is the fastest of this many passes, since what else a machine does only adds time.
const PASSES: usize = 3;

/// The most values that are read before a pass: more than caches hold.
const MOST_VALUES: usize = 8 << 20;

/// Widths of at least twice this are measured at its multiples: kernels work on 8 or 16 channels at
/// a time, and the widths between are interpolated.
const MULTIPLE: u64 = 8;

/// How finely and how long a [`LatencyTable`] is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyOptions {
    points: usize,
    runs: usize,
}

impl Default for LatencyOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyOptions {
    /// At most 6 widths in each direction, and 15 runs of each pair. The table of VGG-19 for CIFAR
    /// then takes half a minute on one core.
    pub fn new() -> Self {
        Self { points: 6, runs: 15 }
    }

    /// Sets the largest number of widths in each direction, at least 2: 1, the layer's own, and
    /// 1/2, 1/4, 3/4, 1/8, 3/8 and so on of it.
    #[must_use]
    pub fn points(self, points: usize) -> Self {
        Self { points: points.max(2), ..self }
    }

    /// Sets how often each pair of widths is measured, at least once. A run is the fastest of three
    /// passes.
    #[must_use]
    pub fn runs(self, runs: usize) -> Self {
        Self { runs: runs.max(1), ..self }
    }

    /// The widths at which a dimension of a weight is measured: multiples of `unit`, ascending.
    fn widths(&self, (own, is_fixed): (u64, bool), unit: u64) -> Vec<u64> {
        if is_fixed {
            return vec![own];
        }
        let shares = SHARES.iter().take(self.points - 1).map(|(part, of)| {
            let width = (own * part).div_ceil(*of);
            let width = if width < 2 * MULTIPLE { width } else { width.next_multiple_of(MULTIPLE) };
            width.next_multiple_of(unit).min(own)
        });
        let mut widths: Vec<_> = shares.chain([unit.min(own)]).collect();
        widths.sort_unstable();
        widths.dedup();
        widths
    }
}

impl LatencyTable {
    /// Measures the layers of a network. `forward` is a pass in evaluation mode, on a sample of the
    /// size that the network will be given, which also sets the batch.
    ///
    /// `forward` runs once, without gradients, to show what each layer is given. Then each shape is
    /// timed by itself, at all pairs of widths [in turn](crate::Benchmark::in_turn), on the device
    /// and in the kind of the network. Before each pass, as many values are read as the network has
    /// (at most 8,388,608), and then the layer's input, so that caches hold about as much of the
    /// layer as in a pass of the network. Measure on an idle machine.
    ///
    /// # Errors
    /// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for a layer that cannot be
    /// timed, with its path and the fix: tch's own layers, whose input is not known, recurrent and
    /// attention layers, and hand-written ones with a weight. [`Error::Torch`], and those of
    /// [`trace`](crate::Prunable::trace).
    ///
    /// # Panics
    /// When `forward` panics.
    pub fn measure<M: Prunable, T>(
        net: &M,
        forward: impl FnOnce(&M) -> T,
        options: &LatencyOptions,
    ) -> Result<Self> {
        let timed = timed(net, forward)?;
        let (kind, device) = timed.place;
        let mut table = Self {
            conditions: Conditions::new(kind, device, tch::get_num_threads()),
            libtorch: LIBTORCH.to_owned(),
            entries: Vec::new(),
            layers: BTreeMap::new(),
        };
        table.add(timed, options)?;
        Ok(table)
    }

    /// Measures the layer shapes of another network that are missing, as
    /// [`measure`](Self::measure) does, and makes the table one of that network. Returns the number
    /// of shapes that were measured.
    ///
    /// # Errors
    /// Those of [`measure`](Self::measure);
    /// [`ArgumentError::LatencyTable`](crate::error::ArgumentError::LatencyTable) when the table
    /// holds for another device, kind of numbers, number of threads, or libtorch. The table is then
    /// unchanged.
    ///
    /// # Panics
    /// When `forward` panics.
    pub fn extend<M: Prunable, T>(
        &mut self,
        net: &M,
        forward: impl FnOnce(&M) -> T,
        options: &LatencyOptions,
    ) -> Result<usize> {
        let timed = timed(net, forward)?;
        let (kind, device) = timed.place;
        self.ensure_holds(&Conditions::new(kind, device, tch::get_num_threads()))?;
        self.add(timed, options)
    }

    fn add(&mut self, timed: TimedLayers, options: &LatencyOptions) -> Result<usize> {
        let TimedLayers { mut layers, place, values } = timed;
        // The widest layers first: they have the times of narrower ones of the same shape.
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.widths[0].0 * layer.widths[1].0));
        let mut added: Vec<Entry> = Vec::new();
        let mut paths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for layer in layers {
            let entries = || self.entries.iter().chain(&added);
            let found = entries().position(|entry| entry.has(&layer.shape, layer.widths));
            let index = match found {
                Some(index) => index,
                None => {
                    added.push(entry(layer.shape, layer.widths, (place, values), options)?);
                    self.entries.len() + added.len() - 1
                }
            };
            paths.entry(layer.tensor).or_default().push(index);
        }
        let count = added.len();
        self.entries.append(&mut added);
        self.layers = paths;
        Ok(count)
    }
}

/// Measures one shape up to these widths, for a network that holds `values` values.
fn entry(
    shape: LayerShape,
    widths: [(u64, bool); 2],
    ((kind, device), values): ((Kind, Device), usize),
    options: &LatencyOptions,
) -> Result<Entry> {
    let units = shape.units();
    let [rows, columns] = [0, 1].map(|dim| options.widths(widths[dim], units[dim]));
    let workload = Workload::new(shape.clone(), widths.map(|(width, _)| width), (kind, device))?;
    let others = Tensor::f_zeros([values.clamp(1, MOST_VALUES) as i64], (kind, device));
    let others = others.map_err(Error::torch("numbers to measure with"))?;
    let (clock, _no_grad) = (Clock::new(device), tch::no_grad_guard());
    let fastest = |layer: &Layer| -> Result<Duration> {
        let mut fastest = Duration::MAX;
        for _ in 0..PASSES {
            let read = others.f_sum(kind).and_then(|_| layer.read_input());
            read.map_err(Error::torch("a layer to measure"))?;
            fastest = fastest.min(clock.time(&mut || layer.run())?);
        }
        Ok(fastest)
    };
    let benchmark = Benchmark::new().device(device).warm_up(Duration::ZERO).runs(options.runs);
    let mut turns = benchmark.in_turn();
    for (&rows, &columns) in rows.iter().flat_map(|row| columns.iter().map(move |it| (row, it))) {
        let layer = workload.layer([rows, columns])?;
        // The first pass shows whether the device can run the layer at all.
        drop(layer.run().map_err(Error::torch("a layer to measure"))?);
        let fastest = &fastest;
        turns = turns.timed_case(format!("{rows} × {columns}"), move || fastest(&layer));
    }
    let times = turns.run()?.cases;
    let grid = |quartile: fn(&Quartiles) -> f64| {
        let nanoseconds = times.iter().map(|(_, latency)| {
            // A clock may show nothing of a short pass.
            (1e9 * quartile(&latency.seconds)).round().max(1.) as u64
        });
        Grid::new(rows.clone(), columns.clone(), nanoseconds.collect())
            .map_err(|reason| unmeasured(format!("the times of a layer are no grid: {reason}")))
    };
    Ok(Entry {
        lower: grid(|seconds| seconds.lower)?,
        median: grid(|seconds| seconds.median)?,
        upper: grid(|seconds| seconds.upper)?,
        shape,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_dense_at_the_layers_own_and_multiples_where_kernels_are() {
        let widths =
            |points, own, unit| LatencyOptions::new().points(points).widths((own, false), unit);
        assert_eq!(widths(8, 512, 1), [1, 32, 64, 128, 192, 256, 384, 512]);
        assert_eq!(widths(6, 512, 1), [1, 64, 128, 256, 384, 512]);
        assert_eq!(widths(6, 64, 1), [1, 8, 16, 32, 48, 64]);
        assert_eq!(widths(8, 49, 1), [1, 4, 7, 13, 24, 32, 40, 49]);
        assert_eq!(widths(2, 512, 1), [1, 512]);
        assert_eq!(widths(0, 512, 1), [1, 512]);
        assert_eq!(widths(8, 1, 1), [1]);
        assert_eq!(LatencyOptions::new().widths((3, true), 1), [3]);
        // A layer in 6 groups.
        let grouped = widths(8, 96, 6);
        assert_eq!(grouped, [6, 12, 24, 42, 48, 72, 96]);
        assert!(grouped.iter().all(|width| width % 6 == 0));
    }
}
