//! The ranges of activations, recorded on calibration batches.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tch::Tensor;

use crate::analysis::{self, Masking};
use crate::error::CheckError;
use crate::graph::{LayerKind, Maker, Memory, memory};
use crate::nn::recorder::{self, Observed};
use crate::numeric::Range;
use crate::{Error, Prunable, Result};

/// The ranges of the activations of a network, for an [export in 8 bits](super::OnnxExport::int8).
///
/// For each call of a convolution, a linear layer or a batch norm of [`nn`](crate::nn): the
/// smallest and the largest value of its input and of its output, over all calibration batches.
/// Layers are known by their field paths and the shapes of their weights, so a calibration is for
/// this network and for others of its shape, such as one that is loaded from its file. It does not
/// fit the network that [`slim`](Prunable::slim) makes of it: calibrate after slimming and
/// training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// By path of the weight.
    weights: BTreeMap<String, Calls>,
    /// By path of the weight of a layer of tch, which reports nothing: the drop-in.
    tchs: BTreeMap<String, String>,
    batches: usize,
}

/// The calls of the layer of one weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Calls {
    pub(super) shape: Vec<i64>,
    /// For each call in one forward pass: the ranges of input and output.
    pub(super) ranges: Vec<[Range; 2]>,
}

impl Calibration {
    /// Runs `forward` on each batch, without gradients, and records the ranges.
    ///
    /// `forward` runs the network in evaluation mode. Some hundred samples are enough if they are
    /// like those at inference, and are preprocessed like them. A value beyond the recorded range
    /// is clipped to it by the exported network.
    ///
    /// ```
    /// use slim_runtime::export::{Calibration, OnnxExport};
    /// use slim_runtime::{Prunable, model, nn};
    /// use tch::nn::ModuleT;
    /// use tch::{Device, Kind, Tensor};
    ///
    /// model! {
    ///     #[derive(Debug)]
    ///     struct Net {
    ///         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
    ///         bn = batch_norm(8);
    ///         relu;
    ///         adaptive_avg_pool(1);
    ///         flatten;
    ///         fc = linear(8 => 10);
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let file = folder.path().join("net.onnx");
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let net = Net::new(vs.root());
    /// let batches = (0..4).map(|_| Tensor::randn([8, 3, 32, 32], (Kind::Float, Device::Cpu)));
    /// let calibration = Calibration::record(&net, batches, |net, xs| net.forward_t(xs, false))?;
    /// let written = OnnxExport::new().int8(&calibration).write(&file, &net, &[&[3, 32, 32]])?;
    /// assert_eq!(written.int8.unwrap().layers, ["conv", "fc"]);
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`CheckError::Calibration`](crate::error::CheckError::Calibration) when there is no batch,
    /// when no layer reports its range, as tch's own cannot, when a value is infinite or NaN, and
    /// when batches run other calls;
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode); [`Error::Torch`].
    pub fn record<M: Prunable + ?Sized, X, Y>(
        net: &M,
        batches: impl IntoIterator<Item = X>,
        forward: impl Fn(&M, &X) -> Y,
    ) -> Result<Self> {
        let mut calibration = Calibration { weights: BTreeMap::new(), tchs: tchs(net), batches: 0 };
        for batch in batches {
            let run = |net: &M| {
                // Inside, because the statistics of batch norms are copies meanwhile.
                let paths = Paths::of(&analysis::tensors(net).0);
                let observed = recorder::record_ranges(|| tch::no_grad(|| forward(net, &batch)));
                calibration.of_batch(&paths, &observed)
            };
            let of_batch = super::in_evaluation(net, run)??;
            calibration.add(of_batch)?;
        }
        calibration.check()?;
        Ok(calibration)
    }

    /// The number of calibration batches.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The calls of the layer with the weight of this path.
    pub(super) fn calls(&self, weight: &str) -> Option<&Calls> {
        self.weights.get(weight)
    }

    /// The paths of all weights.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Calls)> {
        self.weights.iter().map(|(path, calls)| (path.as_str(), calls))
    }

    /// The drop-in for the layer of tch that has the weight of this path.
    pub(super) fn drop_in(&self, weight: &str) -> Option<&str> {
        self.tchs.get(weight).map(String::as_str)
    }

    /// The calls of one batch, by path.
    fn of_batch(&self, paths: &Paths, observed: &[Observed]) -> Result<BTreeMap<String, Calls>> {
        let mut weights: BTreeMap<String, Calls> = BTreeMap::new();
        for seen in observed {
            // A weight outside of the network, such as that of a teacher, or one part of a weight.
            let Some(path) = paths.of_tensor(&seen.weight) else { continue };
            let ranges = match &seen.ranges {
                Ok(ranges) => *ranges,
                Err(error) => return Err(refused(layer_of(path), error.to_string())),
            };
            for (range, what) in ranges.iter().zip(["input", "output"]) {
                if !range.is_finite() {
                    let (batch, Range { least, most }) = (self.batches, range);
                    return Err(refused(
                        layer_of(path),
                        format!(
                            "its {what} in batch {batch} is from {least} to {most}; check the values of that batch, and that the network computes finite values on it"
                        ),
                    ));
                }
            }
            let new = || Calls { shape: seen.weight.size(), ranges: Vec::new() };
            weights.entry(path.to_owned()).or_insert_with(new).ranges.push(ranges);
        }
        Ok(weights)
    }

    fn add(&mut self, of_batch: BTreeMap<String, Calls>) -> Result<()> {
        let batch = self.batches;
        self.batches += 1;
        if batch == 0 {
            self.weights = of_batch;
            return Ok(());
        }
        let count = |weights: &BTreeMap<String, Calls>, path: &str| {
            weights.get(path).map_or(0, |calls| calls.ranges.len())
        };
        let differs = self
            .weights
            .keys()
            .chain(of_batch.keys())
            .find(|path| count(&self.weights, path) != count(&of_batch, path));
        if let Some(path) = differs {
            let [first, now] = [&self.weights, &of_batch].map(|weights| count(weights, path));
            return Err(refused(
                layer_of(path),
                format!(
                    "`forward` calls it {first}× in batch 0 and {now}× in batch {batch}; run the same layers on each batch"
                ),
            ));
        }
        for (path, calls) in of_batch {
            let known = self.weights.get_mut(&path).into_iter().flat_map(|known| &mut known.ranges);
            for (known, new) in known.zip(calls.ranges) {
                *known = [known[0].with(new[0]), known[1].with(new[1])];
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.batches == 0 {
            return Err(refused(
                "model",
                "no batch was given; give some hundred samples that are like those at inference",
            ));
        }
        if !self.weights.is_empty() {
            return Ok(());
        }
        Err(match self.tchs.first_key_value() {
            Some((path, drop_in)) => refused(layer_of(path), tchs_own(drop_in)),
            None => refused(
                "model",
                "`forward` ran none of its convolutions and linear layers; run the network that is given",
            ),
        })
    }
}

/// The reason why a layer of tch has no ranges, and the fix.
pub(super) fn tchs_own(drop_in: &str) -> String {
    format!(
        "it is tch's own, which does not report its ranges; build it with `slim_runtime::nn::{drop_in}` (same signature)"
    )
}

/// The path of the layer that has the tensor of a path.
pub(super) fn layer_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(layer, _)| layer)
}

fn refused(path: &str, reason: impl Into<String>) -> Error {
    Error::Check(CheckError::Calibration { path: path.to_owned(), reason: reason.into() })
}

/// The drop-ins for the layers of tch, by path of their weight.
fn tchs<M: Prunable + ?Sized>(net: &M) -> BTreeMap<String, String> {
    let Ok(graph) = analysis::trace(net, Masking::default()) else { return BTreeMap::new() };
    let reports = |kind: &LayerKind| {
        matches!(kind, LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear)
    };
    let own = graph.layers.iter().filter(|layer| layer.maker == Maker::Tch && reports(&layer.kind));
    own.filter_map(|layer| {
        let weight = layer.tensors.iter().find(|tensor| tensor.name == "weight")?;
        Some((format!("{}.{}", layer.path, weight.name), layer.drop_in(weight)))
    })
    .collect()
}

/// Field paths of the tensors of a network.
pub(super) struct Paths(HashMap<Memory, String>);

impl Paths {
    pub(super) fn of(tensors: &[(String, Tensor)]) -> Self {
        let path = |(path, tensor): &(String, Tensor)| Some((memory(tensor)?, path.clone()));
        Paths(tensors.iter().filter_map(path).collect())
    }

    /// The path of a tensor; `None` if the network has no such tensor as a whole.
    pub(super) fn of_tensor(&self, tensor: &Tensor) -> Option<&str> {
        self.0.get(&memory(tensor)?).map(String::as_str)
    }
}
