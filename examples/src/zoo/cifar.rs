//! Layers as the reference implementation of Network Slimming initialises them.

use slim_runtime::nn::{BatchNorm, Conv2D, batch_norm2d, conv2d};
use tch::nn;

/// A `kernel`×`kernel` convolution that keeps the size of the image, up to its stride.
pub(super) fn conv(p: nn::Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv2D {
    let stdev = (2. / (kernel * kernel * outputs) as f64).sqrt();
    let ws_init = nn::Init::Randn { mean: 0., stdev };
    conv2d(p, inputs, outputs, kernel, nn::ConvConfig { stride, padding: kernel / 2, bias: false, ws_init, ..Default::default() })
}

/// γ starts at one value for all, so that the ranking is learned and not drawn.
pub(super) fn batch_norm(p: nn::Path, width: i64) -> BatchNorm {
    batch_norm2d(p, width, nn::BatchNormConfig { ws_init: nn::Init::Const(0.5), ..Default::default() })
}
