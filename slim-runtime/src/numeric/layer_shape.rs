//! What libtorch is asked for when it computes a layer, apart from numbers of channels.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// What a layer computes, apart from its numbers of channels: all that its time depends on besides
/// them, the device and the kind of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerShape {
    /// Which operation it is.
    pub operation: LayerOperation,
    /// The number of samples; of a linear layer, the number of rows. `None` for an input without a
    /// batch dimension.
    pub batch: Option<i64>,
    /// The sides of the input behind its channels; empty for a linear layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<i64>,
    /// Sides of the kernel; empty for layers without one, as are the numbers that follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<i64>,
    /// Stride along each side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<i64>,
    /// Zero padding along each side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<i64>,
    /// Further positions of a transposed convolution's output along each side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_padding: Vec<i64>,
    /// Dilation along each side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dilation: Vec<i64>,
    /// Groups of a convolution.
    #[serde(default)]
    pub groups: LayerGroups,
    /// Whether a bias is added.
    #[serde(default)]
    pub bias: bool,
}

/// An operation whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerOperation {
    /// A convolution over one, two or three sides.
    Conv,
    /// A transposed convolution over one, two or three sides.
    ConvTranspose,
    /// A fully connected layer.
    Linear,
    /// A batch norm in evaluation mode.
    BatchNorm,
}

/// How many groups a convolution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerGroups {
    /// This many groups at any width.
    Count(i64),
    /// As many as there are channels for: each has this many output channels, as those of a
    /// depthwise convolution, whose groups go as a whole.
    OfSize(i64),
}

impl Default for LayerGroups {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl LayerShape {
    /// An operation without a kernel.
    pub(crate) fn plain(
        operation: LayerOperation,
        batch: Option<i64>,
        sides: Vec<i64>,
        bias: bool,
    ) -> Self {
        Self {
            operation,
            batch,
            sides,
            kernel: Vec::new(),
            stride: Vec::new(),
            padding: Vec::new(),
            output_padding: Vec::new(),
            dilation: Vec::new(),
            groups: LayerGroups::default(),
            bias,
        }
    }

    /// Why the shape cannot be one of a layer.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rank = self.kernel.len();
        let sides = [&self.stride, &self.padding, &self.dilation];
        let is_conv =
            matches!(self.operation, LayerOperation::Conv | LayerOperation::ConvTranspose);
        let output = if self.operation == LayerOperation::ConvTranspose { rank } else { 0 };
        let fits = match is_conv {
            true => (1..=3).contains(&rank) && self.sides.len() == rank,
            false => rank == 0,
        };
        let fits = fits
            && sides.iter().all(|numbers| numbers.len() == rank)
            && self.output_padding.len() == output;
        let (LayerGroups::Count(groups) | LayerGroups::OfSize(groups)) = self.groups;
        let positive = self.batch.iter().chain(&self.sides).chain(&self.kernel).chain([&groups]);
        let positive = positive.chain(&self.stride).chain(&self.dilation).all(|&number| number > 0);
        let padded = self.padding.iter().chain(&self.output_padding).all(|&number| number >= 0);
        match fits && positive && padded {
            true => Ok(()),
            false => Err("its kernel, stride, padding, dilation and sides do not fit its operation: there is one number for each dimension, positive, and at least 0 for padding".to_owned()),
        }
    }

    /// The least number of rows and of columns that the weight can have; other numbers are
    /// multiples.
    pub(crate) fn units(&self) -> [u64; 2] {
        let rows = match (self.groups, self.operation) {
            (LayerGroups::OfSize(_), LayerOperation::ConvTranspose) => 1,
            (LayerGroups::Count(number) | LayerGroups::OfSize(number), _) => number,
        };
        [rows.unsigned_abs().max(1), 1]
    }

    /// The shape of the weight with these numbers of rows and columns: its first two dimensions. A
    /// batch norm's weight has one dimension.
    pub(crate) fn weight(&self, [rows, columns]: [i64; 2]) -> Vec<i64> {
        match self.operation {
            LayerOperation::BatchNorm => vec![rows],
            _ => [rows, columns].into_iter().chain(self.kernel.iter().copied()).collect(),
        }
    }

    /// The number of groups with this number of rows.
    fn groups(&self, rows: i64) -> i64 {
        match (self.groups, self.operation) {
            (LayerGroups::Count(groups), _) => groups,
            (LayerGroups::OfSize(_), LayerOperation::ConvTranspose) => rows,
            (LayerGroups::OfSize(per_group), _) => rows / per_group.max(1),
        }
    }

    /// The length of the bias with these numbers of rows and columns.
    pub(crate) fn outputs(&self, [rows, columns]: [i64; 2]) -> i64 {
        match self.operation {
            LayerOperation::ConvTranspose => self.groups(rows) * columns,
            _ => rows,
        }
    }

    /// The shape of the input for a weight with these numbers of rows and columns.
    pub(crate) fn input(&self, [rows, columns]: [i64; 2]) -> Vec<i64> {
        let channels = match self.operation {
            LayerOperation::Conv => self.groups(rows) * columns,
            LayerOperation::Linear => columns,
            LayerOperation::ConvTranspose | LayerOperation::BatchNorm => rows,
        };
        self.batch.into_iter().chain([channels]).chain(self.sides.iter().copied()).collect()
    }

    /// Computes the layer. `vectors` are the bias, if there is one; of a batch norm, the running
    /// mean and variance, scale and shift.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn compute(
        &self,
        input: &Tensor,
        weight: &Tensor,
        vectors: &[Tensor],
    ) -> Result<Tensor, TchError> {
        let [stride, padding, output_padding, dilation] =
            [&self.stride, &self.padding, &self.output_padding, &self.dilation].map(Vec::as_slice);
        let groups = self.groups(weight.size().first().copied().unwrap_or(1));
        let bias = vectors.first();
        match (self.operation, self.kernel.len()) {
            (LayerOperation::Linear, _) => input.f_linear(weight, bias),
            (LayerOperation::BatchNorm, _) => {
                let vector = |index: usize| vectors.get(index);
                let (scale, shift) = (vector(2), vector(3));
                input.f_batch_norm(scale, shift, bias, vector(1), false, 0.1, 1e-5, true)
            }
            (LayerOperation::Conv, 1) => {
                input.f_conv1d(weight, bias, stride, padding, dilation, groups)
            }
            (LayerOperation::Conv, 2) => {
                input.f_conv2d(weight, bias, stride, padding, dilation, groups)
            }
            (LayerOperation::Conv, _) => {
                input.f_conv3d(weight, bias, stride, padding, dilation, groups)
            }
            (LayerOperation::ConvTranspose, rank) => {
                let convolve = match rank {
                    1 => Tensor::f_conv_transpose1d,
                    2 => Tensor::f_conv_transpose2d,
                    _ => Tensor::f_conv_transpose3d,
                };
                convolve(input, weight, bias, stride, padding, output_padding, groups, dilation)
            }
        }
    }
}
