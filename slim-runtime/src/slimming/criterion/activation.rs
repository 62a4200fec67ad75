//! How large the outputs of a layer are.

use std::collections::BTreeMap;

use serde::Serialize;
use tch::Tensor;

use super::{Candidate, Criterion};
use crate::error::CheckError;
use crate::graph::{LayerKind, LayerNode, Maker};
use crate::{Error, Result};

/// The mean activations of a network: of each channel of a batch norm, a convolution or a linear
/// layer of [`nn`](crate::nn), the mean of the absolute values of the layer's output, over all
/// samples and positions. Made by [`record`](Self::record).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Activations {
    /// By path of the layer.
    layers: BTreeMap<String, Vec<f64>>,
    batches: usize,
}

impl Activations {
    pub(crate) fn new(layers: BTreeMap<String, Vec<f64>>, batches: usize) -> Self {
        Self { layers, batches }
    }

    /// The mean activation of each channel of the layer at this path; `None` if the layer did not
    /// report its output.
    pub fn of(&self, layer: &str) -> Option<&[f64]> {
        self.layers.get(layer).map(Vec::as_slice)
    }

    /// The number of calibration batches.
    pub fn batches(&self) -> usize {
        self.batches
    }
}

/// Mean of the absolute output of a channel over calibration batches: the mean activation of
/// Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR
/// 2017, section 2.2.
///
/// The paper takes the mean of a channel behind its ReLU. Here it is the mean of the absolute value
/// in front of the activation function, which is the output that the layer itself has, so that
/// networks with any activation function are ranked alike. A channel that a batch norm scales is
/// scored by the output of the batch norm, and the layer that makes it has no score. Any other
/// channel is scored by the output of the layer that makes it.
///
/// The paper divides the scores of each layer by their L2 norm: use
/// [`Normalisation::L2`](super::Normalisation::L2). A file stores the criterion without the
/// activations, which is enough to apply a plan.
///
/// ```
/// use slim_runtime::criterion::{Activations, MeanActivation, Normalisation};
/// use slim_runtime::{Prunable, Slimming, model, nn};
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
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = Net::new(vs.root());
/// let batches = (0..4).map(|_| Tensor::randn([8, 3, 32, 32], (Kind::Float, Device::Cpu)));
/// let activations = Activations::record(&net, batches, |net, xs| net.forward_t(xs, false))?;
/// assert_eq!(activations.of("bn").map(<[_]>::len), Some(8));
/// let slimming = Slimming::ratio(0.5)
///     .criterion(MeanActivation::new(activations))
///     .normalisation(Normalisation::L2);
/// assert_eq!(net.scores(&slimming)?[0].path, "bn");
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MeanActivation {
    activations: Activations,
}

impl MeanActivation {
    /// Ranks the channels of the network that `activations` were recorded of.
    pub fn new(activations: Activations) -> Self {
        Self { activations }
    }
}

impl Criterion for MeanActivation {
    fn name(&self) -> String {
        "mean_activation".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        if layer.scale().is_none() && layer.is_scaled() {
            return Ok(None);
        }
        let channels = layer.channels();
        let means = self.activations.of(layer.path()).unwrap_or_default();
        if means.is_empty() || !means.len().is_multiple_of(channels) {
            return Err(Error::Check(CheckError::Activations {
                path: layer.path().to_owned(),
                reason: layer.why_unobserved(),
            }));
        }
        // A grouped transposed convolution is ranked by the channels of one group.
        let groups = (means.len() / channels) as f64;
        let of_group = |channel| means.iter().skip(channel).step_by(channels).sum::<f64>() / groups;
        let scores: Vec<f64> = (0..channels).map(of_group).collect();
        Tensor::f_from_slice(&scores).map(Some).map_err(layer.error())
    }
}

/// Why the activations of a layer are not known, and the fix.
pub(crate) fn why_unobserved(layer: &LayerNode) -> String {
    let weight = layer.ranked.as_ref().map(|ranked| &layer.tensors[ranked.tensor]);
    match (layer.maker, &layer.kind, weight) {
        (Maker::Tch, _, Some(weight)) => format!(
            "it is tch's own, which does not report its output; build it with `slim_runtime::nn::{}` (same signature)",
            layer.drop_in(weight)
        ),
        (_, LayerKind::BatchNorm, _) => "no output of it was recorded; build it with `slim_runtime::nn::batch_norm2d` (or `batch_norm1d`, `batch_norm3d`), since tch's own reports none, and record the network that is ranked with `Activations::record`".to_owned(),
        (Maker::Slim, LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear, _) => "no output of it was recorded; record the network that is ranked with `Activations::record`, and run all of its layers".to_owned(),
        _ => "only batch norms, convolutions and linear layers of `slim_runtime::nn` report their output; rank by another criterion, such as `L2`".to_owned(),
    }
}
