//! A table of how long layers take at different widths, and what it predicts.

mod check;
mod file;
mod measure;

use std::collections::BTreeMap;
use std::fmt;

use crate::analysis::latency::{Conditions, LayerLatencies};
use crate::error::ArgumentError;
use crate::numeric::{Grid, LayerShape, Quartiles};
use crate::plan::Plan;
use crate::slimming::{Slimming, Target};
use crate::{Error, Result};
pub use check::{LatencyCheck, PredictedLatency};
pub use measure::LatencyOptions;

/// How long the layers of a network take on a device, at different numbers of input and output
/// channels: what [`Slimming::latency`] counts.
///
/// [`measure`](Self::measure) times each layer shape of a network by itself, on random numbers: its
/// convolutions, transposed convolutions, linear layers and batch norms, at a grid of widths up to
/// their own. Between the widths of the grid, times are interpolated in both directions. Where a
/// wider layer was measured to be faster, the narrower one's time counts, so that no layer becomes
/// slower by losing channels. The predicted latency of a network is the sum over its layers.
///
/// Activations, pools, sums, and the calls between layers are not in the sum.
/// [`check`](Self::check) compares a prediction with measurements.
///
/// A table holds for the machine, the device, the kind of numbers, the number of threads and the
/// libtorch that it was measured with; its file states all of them but the machine.
/// [`extend`](Self::extend) adds the layers of another network, and measures only the shapes that
/// are missing. The table then belongs to that network.
///
/// ```
/// use slim_runtime::{LatencyOptions, LatencyTable, Prunable, Slimming, model, nn};
/// use tch::{Device, Tensor, nn::ModuleT};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv1 = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
///         bn1 = batch_norm(16);
///         relu;
///         conv2 = conv2d(16 => 16, kernel = 3, padding = 1, bias = false);
///         bn2 = batch_norm(16);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(16 => 10);
///     }
/// }
///
/// # tch::set_num_threads(1); // other tests run beside this one
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = Net::new(vs.root());
/// # for (name, tensor) in vs.variables() {
/// #     if name.ends_with("bn1.weight") || name.ends_with("bn2.weight") {
/// #         tch::no_grad(|| tensor.shallow_clone().uniform_(0.1, 1.));
/// #     }
/// # }
/// let image = Tensor::rand([1, 3, 16, 16], tch::kind::FLOAT_CPU);
/// let options = LatencyOptions::new();
/// # let options = options.points(2).runs(3);
/// let table = LatencyTable::measure(&net, |net| net.forward_t(&image, false), &options)?;
///
/// let plan = net.plan(&Slimming::latency(0.7, &table)?)?;
/// let predicted = table.predict(&plan)?;
/// println!("{predicted}"); // 52.1 µs (51.0–54.3) → 36.2 µs (35.1–38.0), 69.5 %
/// assert!(predicted.share() <= 0.7);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyTable {
    conditions: Conditions,
    /// Version of libtorch.
    libtorch: String,
    entries: Vec<Entry>,
    /// Of the network that was measured last: by field path and tensor, the entry of each
    /// application of the layer.
    layers: BTreeMap<String, Vec<usize>>,
}

/// The times of one layer shape in nanoseconds, by the first two dimensions of its weight.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    shape: LayerShape,
    lower: Grid,
    median: Grid,
    upper: Grid,
}

impl Entry {
    /// Whether the entry has the times of a layer of this shape: at each dimension that no plan
    /// changes, exactly; at any other, from the least width on.
    fn has(&self, shape: &LayerShape, widths: [(u64, bool); 2]) -> bool {
        let grid = self.median.widths();
        let has = |dim: usize| {
            let (width, is_fixed) = widths[dim];
            match is_fixed {
                true => grid[dim].contains(&width),
                false => {
                    grid[dim].first() <= Some(&shape.units()[dim])
                        && Some(&width) <= grid[dim].last()
                }
            }
        };
        self.shape == *shape && has(0) && has(1)
    }
}

impl LatencyTable {
    /// The shapes that were measured, in that order.
    pub fn shapes(&self) -> impl Iterator<Item = &LayerShape> {
        self.entries.iter().map(|entry| &entry.shape)
    }

    /// Field paths and tensors of the network that was measured last: `conv1.weight`,
    /// `bn1.running_mean`.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// The predicted latency of the network before and after `plan`, with its spread. The plan is
    /// one of the network that was measured last.
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the plan was made for
    /// another
    /// network.
    pub fn predict(&self, plan: &Plan) -> Result<PredictedLatency> {
        let grids: [fn(&Entry) -> &Grid; 3] =
            [|entry| &entry.lower, |entry| &entry.median, |entry| &entry.upper];
        let [lower, median, upper] = grids.map(|grid| plan.latency(&self.latencies(grid)));
        let (lower, median, upper) = (lower?, median?, upper?);
        let seconds = |nanoseconds: i64| nanoseconds as f64 / 1e9;
        let quartiles = |lower, median, upper| Quartiles {
            lower: seconds(lower),
            median: seconds(median),
            upper: seconds(upper),
        };
        Ok(PredictedLatency {
            before: quartiles(lower.before, median.before, upper.before),
            after: quartiles(lower.after, median.after, upper.after),
        })
    }

    /// One of the quartiles of the times of the network that was measured last.
    fn latencies(&self, grid: fn(&Entry) -> &Grid) -> LayerLatencies {
        let mut used: Vec<usize> = self.layers.values().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let renumbered = |entries: &Vec<usize>| {
            entries.iter().filter_map(|entry| used.binary_search(entry).ok()).collect()
        };
        LayerLatencies {
            conditions: self.conditions.clone(),
            layers: self
                .layers
                .iter()
                .map(|(path, entries)| (path.clone(), renumbered(entries)))
                .collect(),
            grids: used.iter().map(|&entry| grid(&self.entries[entry]).monotone()).collect(),
        }
    }
}

/// `14 shapes, float, cpu, 1 thread, libtorch 2.11.0`
impl fmt::Display for LatencyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.entries.len() == 1 { "" } else { "s" };
        let Self { conditions, libtorch, .. } = self;
        write!(f, "{} shape{s}, {conditions}, libtorch {libtorch}", self.entries.len())
    }
}

impl Slimming {
    /// Keeps at most the share `share` of the predicted latency: channels go in the order of their
    /// scores until that is reached, and no more.
    ///
    /// `table` has the times of this network's layers: [`LatencyTable::measure`] or
    /// [`LatencyTable::extend`] was called with it. The plan stores the medians, so it is the same
    /// wherever it is carried out.
    ///
    /// # Errors
    /// [`ArgumentError::LatencyTable`](crate::error::ArgumentError::LatencyTable) when the table
    /// holds for another number of threads or another libtorch. When it lacks a layer of the
    /// network, or holds for another device, planning is an error.
    pub fn latency(share: f64, table: &LatencyTable) -> Result<Self> {
        table.ensure_holds(&Conditions {
            threads: tch::get_num_threads(),
            ..table.conditions.clone()
        })?;
        let latencies = table.latencies(|entry| &entry.median);
        Ok(Self::to(Target::Latency { share, latencies }))
    }
}

impl LatencyTable {
    /// # Errors
    /// [`ArgumentError::LatencyTable`](crate::error::ArgumentError::LatencyTable) when the table
    /// holds for other conditions, or another libtorch.
    fn ensure_holds(&self, wanted: &Conditions) -> Result<()> {
        let other = (self.libtorch != measure::LIBTORCH).then(|| {
            format!(
                "of libtorch {}, and this is {}; measure another table",
                self.libtorch,
                measure::LIBTORCH
            )
        });
        match self.conditions.difference(wanted).or(other) {
            Some(difference) => Err(Error::Argument(ArgumentError::LatencyTable { difference })),
            None => Ok(()),
        }
    }
}
