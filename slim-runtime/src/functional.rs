//! What a forward pass does with tensors between layers, under the names that `#[prune(…)]` and [`model!`](crate::model) have for it.

use tch::Tensor;
use tch::nn::ModuleT;

use crate::nn::packed;

/// Runs `forward` with weights as they are without packing, also in a [deployed](crate::deploy()) network whose convolutions have [packed](crate::Layout::Packed) ones: for what cannot hold these, such as a
/// TorchScript trace.
pub fn without_packing<T>(forward: impl FnOnce() -> T) -> T {
    packed::without_packing(forward)
}

/// Part `index` of `chunks` equal parts of the channels of `[N, C, …]`.
///
/// # Panics
/// As tch's: when there is no such part.
pub fn chunk(xs: &Tensor, chunks: i64, index: usize) -> Tensor {
    xs.chunk(chunks, 1).swap_remove(index)
}

/// The channels of `[N, C, …]` in `groups` equal parts, interleaved (ShuffleNet).
///
/// # Panics
/// As tch's: when the width is no multiple of `groups`.
pub fn shuffle(xs: &Tensor, groups: i64) -> Tensor {
    let size = xs.size();
    let mut cut = size.clone();
    cut.splice(1..2, [groups, size[1] / groups]);
    xs.reshape(cut).transpose(1, 2).reshape(size)
}

/// `[N, C, H, W]` `factor` times as high and wide, each position repeated.
///
/// # Panics
/// As tch's: when the input has other dimensions.
pub fn interpolate(xs: &Tensor, factor: i64) -> Tensor {
    let size = xs.size();
    xs.upsample_nearest2d([size[2] * factor, size[3] * factor], None, None)
}

/// `a + b`, in the memory of `a` where it has the shape of the sum.
///
/// # Panics
/// As tch's: when the shapes do not fit.
pub fn sum_into(mut a: Tensor, b: &Tensor) -> Tensor {
    if a.size() == b.size() && a.kind() == b.kind() { a.g_add_(b) } else { a + b }
}

/// `max(0, xs)`, in the memory of `xs`.
pub fn relu_into(mut xs: Tensor) -> Tensor {
    xs.relu_()
}

/// What an element-wise operation that maps zero to zero makes of a tensor.
pub fn map(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// What any operation makes of a tensor. In a forward pass that is [read](crate::forward) its input stays whole, and it is run once on an image of zeros to see what
/// it gives: a tensor `[N, C, …]`, whose channels stay too.
pub fn opaque(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// Layers in a row.
pub fn chain<M: ModuleT>(layers: &[M], xs: Tensor, train: bool) -> Tensor {
    layers.iter().fold(xs, |xs, layer| layer.forward_t(&xs, train))
}
