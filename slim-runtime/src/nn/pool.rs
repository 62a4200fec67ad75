//! Pooling as fields, so that a model's cfg knows where its max-pools are.

use tch::Tensor;
use tch::nn::Module;

use crate::{Flow, LayerKind, Prunable, Result, Tracer};

/// The maximum over windows of `[N, C, H, W]`. `'M'` in a [`Cfg`](crate::Cfg).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Height and width of the window.
    pub kernel: [i64; 2],
    /// Distance of windows.
    pub stride: [i64; 2],
    /// Rows and columns added on each side.
    pub padding: [i64; 2],
    /// Whether a last window that reaches beyond the input counts too.
    pub ceil_mode: bool,
}

/// The average over windows of `[N, C, H, W]`, padding counted in, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// Height and width of the window.
    pub kernel: [i64; 2],
    /// Distance of windows.
    pub stride: [i64; 2],
    /// Rows and columns added on each side.
    pub padding: [i64; 2],
}

/// The average over as many windows as the output is to have positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output.
    pub output: [i64; 2],
}

/// A max-pool over windows of `kernel`×`kernel`, `stride` apart, without padding.
///
/// What else there is to say is in its fields:
/// ```
/// use slim_runtime::nn::{MaxPool2d, max_pool2d};
///
/// let pool = MaxPool2d { ceil_mode: true, ..max_pool2d(3, 2) };
/// let images = tch::Tensor::zeros([1, 1, 8, 8], tch::kind::FLOAT_CPU);
/// assert_eq!(images.apply(&pool).size(), [1, 1, 4, 4]);
/// assert_eq!(images.apply(&max_pool2d(3, 2)).size(), [1, 1, 3, 3]);
/// ```
pub fn max_pool2d(kernel: i64, stride: i64) -> MaxPool2d {
    MaxPool2d { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil_mode: false }
}

/// An average pool over windows of `kernel`×`kernel`, `stride` apart, without padding.
pub fn avg_pool2d(kernel: i64, stride: i64) -> AvgPool2d {
    AvgPool2d { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2] }
}

/// An average pool to `output`×`output` positions, whatever the size of the input.
pub fn adaptive_avg_pool2d(output: i64) -> AdaptiveAvgPool2d {
    AdaptiveAvgPool2d { output: [output; 2] }
}

impl Module for MaxPool2d {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.max_pool2d(self.kernel, self.stride, self.padding, [1, 1], self.ceil_mode)
    }
}

impl Module for AvgPool2d {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.avg_pool2d(self.kernel, self.stride, self.padding, false, true, None)
    }
}

impl Module for AdaptiveAvgPool2d {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.adaptive_avg_pool2d(self.output)
    }
}

/// A layer without tensors that passes channels on.
fn pass(cx: &mut Tracer, kind: LayerKind, input: Flow) -> Result<Flow> {
    cx.layer(kind);
    Ok(input)
}

impl Prunable for MaxPool2d {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        pass(cx, LayerKind::MaxPool, input)
    }
}

impl Prunable for AvgPool2d {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        pass(cx, LayerKind::AvgPool, input)
    }
}

impl Prunable for AdaptiveAvgPool2d {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        pass(cx, LayerKind::AvgPool, input)
    }
}
