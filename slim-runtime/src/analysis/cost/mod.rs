//! The cost of one forward pass: parameters and multiply-accumulate operations.

mod count;
mod report;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::{self, Masking};
use crate::error::{ArgumentError, CheckError, WiringError};
use crate::graph::{LayerKind, Role};
use crate::nn::recorder;
use crate::numeric::Uses;
use crate::{Error, Prunable, Result};

/// Parameters and multiply-accumulate operations (MACs) of a network, by layer and in total.
/// Returned by [`Prunable::cost`](crate::Prunable::cost).
///
/// MACs are counted as in papers and torchvision (one MAC is two FLOPs): the products of
/// convolutions and linear layers, products with padding included. Biases, batch norms,
/// activations, pools, values per channel and embeddings count as zero, and so do products of
/// activations with each other. A convolution uses each element of its weight once for each
/// position of its output, a transposed convolution once for each position of its input, a linear
/// layer once for each row, and cross-attention each third of its packed weight once for each row
/// of the sequence that the third reads. These numbers are recorded while the layers run. If a
/// layer cannot be counted, the report names it with the reason, and gives no total.
///
/// Only the data flow counts. Fields marked `#[prune(skip)]`, and operations in `forward` on
/// tensors that belong to no layer, are in neither figure.
///
/// The cost prints as a table and serialises with serde. Equal networks on inputs of equal size
/// have equal costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
    layers: Vec<LayerCost>,
    /// Why there is no total, where the reason lies outside all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<String>,
}

/// The cost of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerCost {
    /// Field path: `layer2.0.conv1`.
    pub path: String,
    /// What the layer does.
    pub kind: LayerKind,
    /// Number of trained values. A shared tensor counts in the first layer that uses it.
    pub parameters: i64,
    /// MACs for one sample, over all uses; `None` where they are not counted.
    pub macs: Option<i64>,
    /// Why the MACs are not counted, and the fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
    /// The layer's tensors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorCost>,
}

/// How a tensor of a layer is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TensorCost {
    /// Name in the layer: `weight`, `running_mean`.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Vec<i64>,
    /// Whether the tensor is trained.
    pub role: Role,
    /// How often each element is multiplied for one sample: MACs per element. Does not depend on
    /// the number of channels.
    pub uses: Uses,
    /// For a shared tensor, the path of its first use in the network; that entry has the uses of
    /// both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<String>,
}

impl Cost {
    /// The layers in the order of the data flow. A layer that is applied several times has one
    /// entry for each time, as in [`Plan::layers`](crate::Plan::layers).
    pub fn layers(&self) -> &[LayerCost] {
        &self.layers
    }

    /// The cost of the same network with other layers.
    pub(crate) fn with_layers(&self, layers: Vec<LayerCost>) -> Self {
        Self { layers, outside: self.outside.clone() }
    }

    /// The layer at this field path.
    pub fn layer(&self, path: &str) -> Option<&LayerCost> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// Number of trained values in the network: weights, biases, scales and shifts. A shared tensor
    /// counts once.
    pub fn parameters(&self) -> i64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// MACs of the network for one sample.
    ///
    /// # Errors
    /// [`CheckError::Uncounted`](crate::error::CheckError::Uncounted), with every uncounted layer
    /// and the reason.
    pub fn macs(&self) -> Result<i64> {
        let reasons: Vec<String> = self.uncounted().map(str::to_owned).collect();
        if !reasons.is_empty() {
            return Err(Error::Check(CheckError::Uncounted { reasons }));
        }
        let sum = self.layers.iter().filter_map(|layer| layer.macs).try_fold(0, i64::checked_add);
        sum.ok_or_else(|| {
            Error::Check(CheckError::Uncounted {
                reasons: vec!["the network has more MACs than an `i64` can count".to_owned()],
            })
        })
    }

    /// How often each weight is used for one sample, by field path and tensor.
    ///
    /// # Errors
    /// [`CheckError::Uncounted`](crate::error::CheckError::Uncounted).
    pub(crate) fn uses(&self) -> Result<BTreeMap<String, Uses>> {
        self.macs()?;
        let tensors = self
            .layers
            .iter()
            .flat_map(|layer| layer.tensors.iter().map(move |tensor| (&layer.path, tensor)));
        let used = tensors.filter(|(_, tensor)| tensor.uses.times() > 0);
        Ok(used.map(|(path, tensor)| (format!("{path}.{}", tensor.name), tensor.uses)).collect())
    }

    /// Why the MACs are not all counted: one sentence for each uncounted layer.
    pub fn uncounted(&self) -> impl Iterator<Item = &str> {
        self.layers
            .iter()
            .filter_map(|layer| layer.uncounted.as_deref())
            .chain(self.outside.as_deref())
    }
}

impl LayerCost {
    pub(crate) fn new(
        path: String,
        kind: LayerKind,
        tensors: Vec<TensorCost>,
        uncounted: Option<String>,
    ) -> Self {
        let trained =
            tensors.iter().filter(|tensor| tensor.role == Role::Parameter && tensor.tied.is_none());
        let parameters = trained.map(TensorCost::elements).sum();
        let macs = tensors.iter().try_fold(0_i64, |sum, tensor| sum.checked_add(tensor.macs()?));
        let uncounted = uncounted.or_else(|| {
            macs.is_none().then(|| format!("`{path}` has more MACs than an `i64` can count"))
        });
        let macs = macs.filter(|_| uncounted.is_none());
        Self { path, kind, parameters, macs, uncounted, tensors }
    }
}

impl TensorCost {
    fn elements(&self) -> i64 {
        self.shape.iter().product()
    }

    /// `None` where an `i64` cannot hold them.
    fn macs(&self) -> Option<i64> {
        i64::try_from(self.uses.macs(u64::try_from(self.elements()).ok()?)?).ok()
    }
}

/// The cost of `forward` on a batch of one sample, recorded while it runs.
pub(crate) fn of_one<M: Prunable, T>(model: &M, forward: impl FnOnce(&M) -> T) -> Result<Cost> {
    let graph = analysis::trace(model, Masking::BatchNorm)?;
    let records = recorder::record(|| tch::no_grad(|| forward(model)));
    count::check_batch(&graph, &records)?;
    count::count(&graph, &records, 1)
}

/// The cost for one sample of inputs of these shapes, computed without running `forward`.
pub(crate) fn by_shape<M: Prunable + ?Sized>(model: &M, shapes: &[Vec<i64>]) -> Result<Cost> {
    let shapes = (!shapes.is_empty()).then_some(shapes);
    let graph = analysis::trace_on(model, shapes, Masking::BatchNorm)?;
    if graph.is_forward && graph.knows_shapes && graph.declared.is_empty() {
        return count::read(&graph);
    }
    let reason = if graph.is_forward && graph.declared.is_empty() {
        "the shape of its input is not known; give it, as in `cost_by_shape(&[&[3, 224, 224]])`, or write `#[prune(input = [3, 224, 224])]` on the struct"
    } else {
        "its wiring is not read from `forward`, so the sizes of images are not known; run it, with `cost`, or read it with `#[forward]`"
    };
    Err(Error::Wiring(WiringError::Layer { path: "model".to_owned(), reason: reason.to_owned() }))
}

/// The cost for one of the `samples` of `forward`, recorded while it runs.
pub(crate) fn of_each<M: Prunable, T>(
    model: &M,
    samples: i64,
    forward: impl FnOnce(&M) -> T,
) -> Result<Cost> {
    if samples < 1 {
        return Err(Error::Argument(ArgumentError::Samples {
            samples,
            reason: "there must be at least one".to_owned(),
        }));
    }
    let graph = analysis::trace(model, Masking::BatchNorm)?;
    count::count(&graph, &recorder::record(|| tch::no_grad(|| forward(model))), samples)
}
