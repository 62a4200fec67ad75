//! Pooling layers as fields, so that a model's cfg contains its max-pools.

use tch::Tensor;
use tch::nn::Module;

use crate::graph::shape::slid;
use crate::graph::{Operator, arguments};
use crate::{Flow, LayerKind, PartVisitor, Prunable, Result, Tracer};

/// Max-pool over windows of `D` dimensions of `[N, C, …]`. `'M'` in a [`Cfg`](crate::Cfg).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool<const D: usize> {
    /// Size of the window in each dimension.
    pub kernel: [i64; D],
    /// Distance between windows in each dimension.
    pub stride: [i64; D],
    /// Number of positions added on each side.
    pub padding: [i64; D],
    /// Whether a last window that reaches beyond the input counts.
    pub ceil_mode: bool,
}

/// Average pool over windows of `D` dimensions of `[N, C, …]`. The average includes the padding, as
/// in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool<const D: usize> {
    /// Size of the window in each dimension.
    pub kernel: [i64; D],
    /// Distance between windows in each dimension.
    pub stride: [i64; D],
    /// Number of positions added on each side.
    pub padding: [i64; D],
}

/// Adaptive average pool over `D` dimensions: one window for each position of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool<const D: usize> {
    /// Size of the output in each dimension.
    pub output: [i64; D],
}

/// For `[N, C, L]`.
pub type MaxPool1d = MaxPool<1>;
/// For `[N, C, H, W]`.
pub type MaxPool2d = MaxPool<2>;
/// For `[N, C, D, H, W]`.
pub type MaxPool3d = MaxPool<3>;
/// For `[N, C, L]`.
pub type AvgPool1d = AvgPool<1>;
/// For `[N, C, H, W]`.
pub type AvgPool2d = AvgPool<2>;
/// For `[N, C, D, H, W]`.
pub type AvgPool3d = AvgPool<3>;
/// For `[N, C, L]`.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// For `[N, C, H, W]`.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
/// For `[N, C, D, H, W]`.
pub type AdaptiveAvgPool3d = AdaptiveAvgPool<3>;

macro_rules! constructors {
    ($($max:ident $avg:ident $adaptive:ident $d:literal),+) => {$(
        /// A max-pool over windows with sides of `kernel`, `stride` apart, without padding. Set the
        /// fields for other options.
        ///
        /// ```
        /// use slim_runtime::nn::{MaxPool2d, max_pool2d};
        ///
        /// let pool = MaxPool2d { ceil_mode: true, ..max_pool2d(3, 2) };
        /// let images = tch::Tensor::zeros([1, 1, 8, 8], tch::kind::FLOAT_CPU);
        /// assert_eq!(images.apply(&pool).size(), [1, 1, 4, 4]);
        /// assert_eq!(images.apply(&max_pool2d(3, 2)).size(), [1, 1, 3, 3]);
        /// ```
        pub fn $max(kernel: i64, stride: i64) -> MaxPool<$d> {
            MaxPool { kernel: [kernel; $d], stride: [stride; $d], padding: [0; $d], ceil_mode: false }
        }

        /// An average pool over windows with sides of `kernel`, `stride` apart, without padding.
        pub fn $avg(kernel: i64, stride: i64) -> AvgPool<$d> {
            AvgPool { kernel: [kernel; $d], stride: [stride; $d], padding: [0; $d] }
        }

        /// An average pool to an output with sides of `output`, whatever the size of the input.
        pub fn $adaptive(output: i64) -> AdaptiveAvgPool<$d> {
            AdaptiveAvgPool { output: [output; $d] }
        }
    )+};
}

constructors!(max_pool1d avg_pool1d adaptive_avg_pool1d 1, max_pool2d avg_pool2d adaptive_avg_pool2d 2, max_pool3d avg_pool3d adaptive_avg_pool3d 3);

impl<const D: usize> Module for MaxPool<D> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let Self { kernel, stride, padding, ceil_mode } = *self;
        // One dilation for each dimension. libtorch accepts one for all dimensions, but ONNX, to
        // which a trace may be converted, does not.
        match D {
            1 => xs.max_pool1d(&kernel[..], &stride[..], &padding[..], [1; 1], ceil_mode),
            2 => xs.max_pool2d(&kernel[..], &stride[..], &padding[..], [1; 2], ceil_mode),
            _ => xs.max_pool3d(&kernel[..], &stride[..], &padding[..], [1; 3], ceil_mode),
        }
    }
}

impl<const D: usize> Module for AvgPool<D> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let Self { kernel, stride, padding } = *self;
        match D {
            1 => xs.avg_pool1d(&kernel[..], &stride[..], &padding[..], false, true),
            2 => xs.avg_pool2d(&kernel[..], &stride[..], &padding[..], false, true, None),
            _ => xs.avg_pool3d(&kernel[..], &stride[..], &padding[..], false, true, None),
        }
    }
}

impl<const D: usize> Module for AdaptiveAvgPool<D> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        match D {
            1 => xs.adaptive_avg_pool1d(&self.output[..]),
            2 => xs.adaptive_avg_pool2d(&self.output[..]),
            _ => xs.adaptive_avg_pool3d(&self.output[..]),
        }
    }
}

impl<const D: usize> Prunable for MaxPool<D> {
    fn parts(&self, _: &mut PartVisitor<'_>) -> Result<()> {
        Ok(())
    }

    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.layer(LayerKind::MaxPool);
        let operator = Operator::pool("max_pool", true, false);
        let pooled = cx.pool(&input, operator, |side, size| {
            let window = [*self.kernel.get(side)?, self.stride[side], self.padding[side], 1];
            slid(size, window, self.ceil_mode)
        })?;
        let Self { kernel, stride, padding, ceil_mode } = self;
        let arguments = arguments![&input, kernel, stride, padding, &[1; D], *ceil_mode];
        cx.call("max_pool", arguments, &pooled);
        Ok(pooled)
    }
}

impl<const D: usize> Prunable for AvgPool<D> {
    fn parts(&self, _: &mut PartVisitor<'_>) -> Result<()> {
        Ok(())
    }

    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.layer(LayerKind::AvgPool);
        let operator = Operator::pool("avg_pool", false, self.padding != [0; D]);
        let pooled = cx.pool(&input, operator, |side, size| {
            let window = [*self.kernel.get(side)?, self.stride[side], self.padding[side], 1];
            slid(size, window, false)
        })?;
        let Self { kernel, stride, padding } = self;
        let (dilation, divisor) = (&[1; D], None::<i64>);
        let arguments = arguments![&input, kernel, stride, padding, dilation, false, true, divisor];
        cx.call("avg_pool", arguments, &pooled);
        Ok(pooled)
    }
}

impl<const D: usize> Prunable for AdaptiveAvgPool<D> {
    fn parts(&self, _: &mut PartVisitor<'_>) -> Result<()> {
        Ok(())
    }

    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.layer(LayerKind::AvgPool);
        let operator = Operator::pool("adaptive_avg_pool", false, false);
        let pooled = cx.pool(&input, operator, |side, _| self.output.get(side).copied())?;
        cx.call("adaptive_avg_pool", arguments![&input, &self.output], &pooled);
        Ok(pooled)
    }
}
