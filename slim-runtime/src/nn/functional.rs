//! Operations between the layers of a forward pass, under the names that they have in `#[prune(…)]`
//! and [`model!`](crate::model).

use tch::Tensor;
use tch::nn::ModuleT;

use crate::numeric::packed;
use crate::symbolic::Native;

/// Runs `forward` with the unpacked weights, also in a [deployed](crate::deploy()) network whose
/// convolutions have [packed](crate::Layout::Packed) weights: for a TorchScript trace, which cannot
/// hold packed weights.
pub fn without_packing<T>(forward: impl FnOnce() -> T) -> T {
    packed::without_packing(forward)
}

/// Part `index` when the channels of `[N, C, …]` are cut into `chunks` equal parts.
///
/// # Panics
/// When `index` is not less than the number of parts.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn chunk(xs: &Tensor, chunks: i64, index: usize) -> Tensor {
    xs.chunk(chunks, 1).swap_remove(index)
}

/// Channel shuffle (ShuffleNet): cuts the channels of `[N, C, …]` into `groups` equal parts and
/// interleaves them.
///
/// # Panics
/// As in tch: when the number of channels is not a multiple of `groups`.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn shuffle(xs: &Tensor, groups: i64) -> Tensor {
    let size = xs.size();
    let mut cut = size.clone();
    cut.splice(1..2, [groups, size[1] / groups]);
    xs.reshape(cut).transpose(1, 2).reshape(size)
}

/// Nearest-neighbour upsampling of `[N, C, H, W]` to `factor` times the height and width.
///
/// # Panics
/// When the input is not of the form `[N, C, H, W]`.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn interpolate(xs: &Tensor, factor: i64) -> Tensor {
    let size = xs.size();
    xs.upsample_nearest2d([size[2] * factor, size[3] * factor], None, None)
}

/// Flattens `[N, C, …]` to `[N, C · positions]`. In a forward pass that is [read](crate::forward),
/// `positions` gives the number of positions if the size of the input does not determine it.
///
/// # Panics
/// As in tch: when the input has one dimension.
#[track_caller]
pub fn flatten<T: Native>(xs: &T, positions: i64) -> T {
    xs.flatten_positions(positions)
}

/// `a + b`, in the memory of `a` if `a` has the shape of the sum.
///
/// # Panics
/// As in tch: when the shapes do not fit.
#[track_caller]
pub fn sum_into<T: Native>(a: T, b: &T) -> T {
    a.sum_into(b)
}

/// `max(0, xs)`, in the memory of `xs`.
#[track_caller]
pub fn relu_into<T: Native>(xs: T) -> T {
    xs.relu_into()
}

/// Applies an element-wise operation. In a forward pass that is [read](crate::forward), whether it
/// maps zero to zero is computed.
pub fn map(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// Applies any operation. In a forward pass that is [read](crate::forward), all channels of its
/// input are kept, and the operation is run once on an image of zeros to learn the shape of its
/// output: a tensor `[N, C, …]`, whose channels are all kept too.
pub fn opaque(xs: &Tensor, operation: impl Fn(&Tensor) -> Tensor) -> Tensor {
    operation(xs)
}

/// Applies layers one after the other.
#[crate::forward(crate = "crate")]
#[track_caller]
pub fn chain<M: ModuleT>(layers: &[M], xs: Tensor, train: bool) -> Tensor {
    let mut xs = xs;
    for layer in layers {
        xs = xs.apply_t(layer, train);
    }
    xs
}
