//! Absorption: adding what removed channels still send on, act(β), to the layers that read them.

use serde::{Deserialize, Serialize};

use crate::Activation;

/// Options for absorption: see [`Slimming::absorb`](crate::Slimming::absorb) and
/// [`Slimming::absorb_after`](crate::Slimming::absorb_after).
///
/// A channel whose γ is zero carries a constant: act(β), its β behind the activation. Slimming
/// alone drops it. Absorption adds what each consumer computes from it, `Σ act(β) · Σ w` over the
/// removed channels and the kernel, to the bias of the consumer, or subtracts it from the running
/// mean of the batch norm directly behind the consumer. The slimmed network then computes what the
/// network computes with γ of the removed channels set to zero and β kept. Without absorption, the
/// slimmed network corresponds to both set to zero.
///
/// Absorption is exact, up to rounding, for linear layers, for convolutions without padding (1×1
/// above all) or whose padding repeats or mirrors the image, and for transposed convolutions with
/// stride 1 whose padding covers the kernel. A convolution padded with zeros is exact where the
/// kernel does not meet the padding. At the border, too much is added: at most
/// `Σ |act(β)| · Σ |w|`, where the second sum runs over the kernel's weights that lie on the
/// padding. On images that are not much larger than the kernel there is more border than interior.
///
/// The activation is known from [`model!`](crate::model), from `#[prune(act = relu)]` on a field or
/// `relu(…)` in an expression of a derive, from [`Tracer::activation`](crate::Tracer::activation),
/// or from the call. An operation that the data flow does not state is assumed to be absent: a
/// convolution in front of a batch norm is directly in front of it.
///
/// Some channels are not absorbed, and [`Slimmed::absorbed`](crate::Slimmed::absorbed) lists them
/// with the reason: channels behind a gate that depends on the image, channels behind a depthwise
/// convolution without a batch norm of its own, and channels read by a layer that has neither bias
/// nor batch norm, or by a transposed convolution with a stride.
///
/// A channel whose γ is not zero carries more than its β. [`recalibrate`](crate::recalibrate)
/// estimates the batch-norm statistics anew, from data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Absorb {
    /// The activation between a batch norm and its consumers, where the wiring does not state one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Activation>,
}
