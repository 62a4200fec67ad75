//! What a forward pass does with tensors between layers, under the names that `#[prune(…)]` and
//! [`model!`](crate::model) have for it.

use tch::Tensor;
use tch::nn::ModuleT;

use crate::numeric::packed;
use crate::symbolic::Native;

/// Runs `forward` with weights as they are without packing, also in a [deployed](crate::deploy())
/// network whose convolutions have [packed](crate::Layout::Packed) ones: for what cannot hold
/// these, such as a TorchScript trace.
pub fn without_packing<T>(forward: impl FnOnce() -> T) -> T {
    packed::without_packing(forward)
}

/// Part `index` of `chunks` equal parts of the channels of `[N, C, …]`.
///
/// # Panics
/// As tch's: when there is no such part.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn chunk(xs: &Tensor, chunks: i64, index: usize) -> Tensor {
    xs.chunk(chunks, 1).swap_remove(index)
}

/// The channels of `[N, C, …]` in `groups` equal parts, interleaved (ShuffleNet).
///
/// # Panics
/// As tch's: when the width is no multiple of `groups`.
#[crate::forward(crate = "crate")]
#[track_caller]
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
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn interpolate(xs: &Tensor, factor: i64) -> Tensor {
    let size = xs.size();
    xs.upsample_nearest2d([size[2] * factor, size[3] * factor], None, None)
}

/// `[N, C, …]` as `[N, C · positions]`. In a forward pass that is [read](crate::forward) this says
/// how many positions there are, where the size of the input does not.
///
/// # Panics
/// As tch's: when the input has one dimension.
#[track_caller]
pub fn flatten<T: Native>(xs: &T, positions: i64) -> T {
    xs.flatten_positions(positions)
}

/// `a + b`, in the memory of `a` where it has the shape of the sum.
///
/// # Panics
/// As tch's: when the shapes do not fit.
#[track_caller]
pub fn sum_into<T: Native>(a: T, b: &T) -> T {
    a.sum_into(b)
}

/// `max(0, xs)`, in the memory of `xs`.
#[track_caller]
pub fn relu_into<T: Native>(xs: T) -> T {
    xs.relu_into()
}

/// What an element-wise operation that maps zero to zero makes of a tensor.
pub fn map(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// What any operation makes of a tensor. In a forward pass that is [read](crate::forward) its input
/// stays whole, and it is run once on an image of zeros to see what it gives: a tensor `[N, C, …]`,
/// whose channels stay too.
pub fn opaque(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// Layers in a row.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn chain<M: ModuleT>(layers: &[M], xs: Tensor, train: bool) -> Tensor {
    let mut xs = xs;
    for layer in layers {
        xs = xs.apply_t(layer, train);
    }
    xs
}
