//! A layer as a criterion sees it.

use tch::{Kind, Tensor};

use super::activation::why_unobserved;
use super::network::Network;
use crate::graph::{LayerKind, LayerNode, Ranked};
use crate::{Error, Result};

/// A layer whose channels a [`Criterion`](super::Criterion) may rank.
pub struct Candidate<'g> {
    layer: &'g LayerNode,
    ranked: &'g Ranked,
    network: &'g Network<'g>,
}

impl<'g> Candidate<'g> {
    pub(crate) fn new(layer: &'g LayerNode, ranked: &'g Ranked, network: &'g Network<'g>) -> Self {
        Self { layer, ranked, network }
    }

    /// Field path: `layer2.0.conv1`.
    pub fn path(&self) -> &'g str {
        &self.layer.path
    }

    /// The kind of the layer.
    pub fn kind(&self) -> &'g LayerKind {
        &self.layer.kind
    }

    /// Whether a layer with a scale scales one of the channels, or a channel that stays or goes
    /// with it: as the batch norm behind a convolution does, or one behind a sum.
    pub fn is_scaled(&self) -> bool {
        self.network.is_scaled(&self.layer.axes[self.ranked.axis])
    }

    /// The number of channels to score.
    pub fn channels(&self) -> usize {
        self.layer.axes[self.ranked.axis].ids.len()
    }

    /// The scale `[channels]`, γ of a batch norm; `None` for a layer that has no scale.
    pub fn scale(&self) -> Option<&'g Tensor> {
        self.ranked.is_scale.then(|| &self.layer.tensors[self.ranked.tensor].tensor)
    }

    /// The weights `[channels, values per channel]` of a layer that makes channels, one row per
    /// output channel; `None` for a layer that has a scale instead.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn filters(&self) -> Result<Option<Tensor>> {
        if self.ranked.is_scale {
            return Ok(None);
        }
        self.rows(&self.layer.tensors[self.ranked.tensor].tensor).map(Some)
    }

    /// Of a layer that has a scale: the L2 norms `[channels]`, in double precision, of the filters
    /// that make the channels that it scales. A filter is the weights of one output channel of a
    /// convolution or linear layer, or of another trained tensor that has a dimension for the
    /// channels and at least one other. Layers in between that have no filters, such as pools, do
    /// not count. For a sum of channels, it is the root of the sum of the squared norms of the
    /// filters of all summands.
    ///
    /// `None` for a layer that has no scale, or if no filter makes one of its channels, such as an
    /// input of the model.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn filter_norms(&self) -> Result<Option<Tensor>> {
        if !self.ranked.is_scale {
            return Ok(None);
        }
        let norms = self.network.filter_norms(self.layer.axes[self.ranked.axis].value)?;
        norms.map(|norms| self.on_device(&norms)).transpose().map_err(self.error())
    }

    /// The gradient of the [scale](Self::scale) `[channels]`, or of the [filters](Self::filters)
    /// `[channels, values per channel]`; `None` if there is no gradient.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn gradient(&self) -> Result<Option<Tensor>> {
        let gradient =
            self.layer.tensors[self.ranked.tensor].tensor.f_grad().map_err(self.error())?;
        match gradient.defined() {
            false => Ok(None),
            true if self.ranked.is_scale => Ok(Some(gradient)),
            true => self.rows(&gradient).map(Some),
        }
    }

    /// Weight times gradient `[channels, values per channel]`, in double precision: what the loss
    /// changes by when a weight goes, to first order. `None` without filters or a gradient.
    pub(super) fn changes(&self) -> Result<Option<Tensor>> {
        let (Some(filters), Some(gradient)) = (self.filters()?, self.gradient()?) else {
            return Ok(None);
        };
        let product = || filters.f_to_kind(Kind::Double)?.f_mul(&gradient.f_to_kind(Kind::Double)?);
        product().map(Some).map_err(self.error())
    }

    /// What the loss changes by `[channels]`, to first order and in double precision, when a
    /// channel goes together with all that stay or go with it: the sum of parameter times gradient
    /// over all parameters that make or scale a channel of the group. These are filters and biases,
    /// γ and β, of all layers of the group: what
    /// [`Masking::Parameters`](crate::criterion::Masking::Parameters) sets to zero. A tensor that
    /// several layers share counts once. A parameter without a gradient does not count.
    ///
    /// `None` if no parameter of the groups has a gradient.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn group_changes(&self) -> Result<Option<Tensor>> {
        let changes = self.network.group_changes(&self.layer.axes[self.ranked.axis])?;
        changes.map(|changes| self.on_device(&changes)).transpose().map_err(self.error())
    }

    /// A tensor of these values, on the device of the ranked tensor.
    fn on_device(&self, values: &[f64]) -> Result<Tensor, tch::TchError> {
        let device = self.layer.tensors[self.ranked.tensor].tensor.device();
        Tensor::f_from_slice(values)?.f_to_device(device)
    }

    /// A tensor of the layer by name: `weight`, `bias`, `running_mean`.
    pub fn tensor(&self, name: &str) -> Option<&'g Tensor> {
        self.layer.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| &tensor.tensor)
    }

    /// Moves the channel dimension to the front and flattens all others into one.
    fn rows(&self, tensor: &Tensor) -> Result<Tensor> {
        let rows = || {
            tensor
                .f_detach()?
                .f_transpose(0, self.ranked.dim as i64)?
                .f_reshape([self.channels() as i64, -1])
        };
        rows().map_err(self.error())
    }

    /// Why no output of the layer was recorded, and the fix.
    pub(super) fn why_unobserved(&self) -> String {
        why_unobserved(self.layer)
    }

    /// For `map_err`: wraps libtorch's error with the path of the ranked tensor.
    pub(super) fn error(&self) -> impl FnOnce(tch::TchError) -> Error {
        Error::torch(format!("{}.{}", self.layer.path, self.layer.tensors[self.ranked.tensor].name))
    }
}
