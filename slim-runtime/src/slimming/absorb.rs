//! What removed channels still sent on, added to what reads them.

use serde::{Deserialize, Serialize};

use crate::Activation;

/// How absorption is to be done: [`Slimming::absorb`](crate::Slimming::absorb),
/// [`Slimming::absorb_after`](crate::Slimming::absorb_after).
///
/// A channel whose γ is zero carries one number: its β, behind the activation, `act(β)`. Slimming
/// drops it; absorption adds what each reader made of it, `Σ act(β) · Σ w` over the removed
/// channels and the kernel, to the reader's bias, or subtracts it from the running mean of the
/// batch norm that is directly behind the reader. The slimmed network then computes what the
/// network computes with γ of the removed channels set to zero and β kept; without absorption both
/// are zero.
///
/// This is exact, to rounding, for linear layers, for convolutions without padding (1×1 above all),
/// or whose padding repeats or mirrors the image, and for transposed ones with a stride of 1 and a
/// padding of their kernel. A convolution padded with zeros is exact where the kernel does not meet
/// the padding; at the border too much is added: at most `Σ |act(β)| · Σ |w|`, the latter over
/// those of the kernel's weights that lie on the padding. On images that are not much larger than
/// the kernel there is more border than interior.
///
/// The activation is known from [`model!`](crate::model), from `#[prune(act = relu)]` on a field or
/// `relu(…)` in an expression of a derive, from [`Tracer::activation`](crate::Tracer::activation),
/// or from the call. What the data flow does not say is taken not to happen: a convolution in front
/// of a batch norm is directly in front of it.
///
/// What is not known is not absorbed, and [`Slimmed::absorbed`](crate::Slimmed::absorbed) says what
/// and why: channels behind a gate that depends on the image, behind a depthwise convolution
/// without a batch norm of its own, readers without bias or batch norm, transposed convolutions
/// with a stride.
///
/// Where γ is not zero, a channel carries more than its β. [`recalibrate`](crate::recalibrate)
/// estimates the means anew, from data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Absorb {
    /// The activation between a batch norm and its readers, where nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Activation>,
}
