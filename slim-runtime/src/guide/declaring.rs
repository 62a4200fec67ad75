//! Declared wirings: the order of the fields, with `from` and `output` for branches.
//!
//! `#[prune(sequential)]` on a struct says that data flows through its fields in the order of their
//! declaration. A derive cannot see `forward`, so this is for groups of layers that have no
//! `forward` of their own, and for quick work: where the order of the fields is not what `forward`
//! does, the slimmed network is wrong, and only [`verify`](crate::Slimming::verify) finds it.
//! Plans, reports and files say which types declare their wiring until a verification has passed.
//! Everything else is better [read from `forward`](super).
//!
//! In a chain nothing more need be said. Branches are said with two attributes:
//! `#[prune(from = …)]` on a field says what it reads, `#[prune(output = …)]` on the struct what
//! comes out. What they refer to is declared before, so a struct reads from top to bottom as its
//! `forward` does. All keys are listed at [`Prunable`](derive@crate::Prunable).
//!
//! ## ResNet: a sum
//!
//! Channels that are added are one: all the layers that write to a residual stream lose the same
//! positions, by the largest |γ| among them.
//!
//! ```
//! use slim_runtime::{Prunable, nn};
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = bn2 + downsample)]
//! struct BasicBlock {
//!     conv1: nn::Conv2D,
//!     bn1: nn::BatchNorm,
//!     conv2: nn::Conv2D,
//!     bn2: nn::BatchNorm,
//!     #[prune(from = input)]
//!     downsample: Option<(nn::Conv2D, nn::BatchNorm)>, // `None` is the identity
//! }
//! ```
//!
//! A channel may only go where every reader sees zeros once its γ and β are zero. Without a batch
//! norm on the shortcut, `bn2 + shortcut` carries what the shortcut's convolution makes, so the
//! stream stays, and the plan names its reader.
//!
//! ## DenseNet: a concatenation
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = [input, conv])]
//! struct DenseLayer {
//!     bn: nn::BatchNorm,
//!     conv: nn::Conv2D,
//! }
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct DenseBlock(Vec<DenseLayer>); // each layer sees the concatenation of all before
//! ```
//!
//! ## Squeeze-and-excitation: a gate
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = bn * expand)]
//! struct Gated {
//!     conv: nn::Conv2D,
//!     bn: nn::BatchNorm,
//!     squeeze: nn::Conv2D, // behind a global average pool
//!     expand: nn::Conv2D,  // in front of a sigmoid
//! }
//! ```
//!
//! The product is zero where `bn` is, whatever the gate says, so its channels may go; the gate's
//! follow them.
//!
//! A gate of one channel (a spatial gate) multiplies all, and stays.
//!
//! ## Pre-activation: a stream that keeps its width
//!
//! In front of its first batch norm, each block selects what that batch norm keeps, and the stream
//! is left whole. This is the reference's way, with its cfg.
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = conv2 + input)]
//! struct PreActivation {
//!     select: nn::ChannelSelect,
//!     bn1: nn::BatchNorm,
//!     conv1: nn::Conv2D,
//!     bn2: nn::BatchNorm,
//!     conv2: nn::Conv2D,
//! }
//! ```
//!
//! ## Features and positions
//!
//! A linear layer behind a flatten finds out by itself how many positions a channel has. Where
//! something else reads flattened channels, or they are joined with other features, say it:
//! `flatten(a, 49)`. A decoder's `view` from features to an image is `unflatten(a, 49)`.
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = head)]
//! struct TwoScales {
//!     fine: (nn::Conv2D, nn::BatchNorm),   // pooled to 2×2
//!     coarse: (nn::Conv2D, nn::BatchNorm), // pooled to 1×1
//!     #[prune(from = [flatten(fine, 4), flatten(coarse, 1)])]
//!     head: nn::Linear,
//! }
//! ```
//!
//! ## ShuffleNet: a split and a shuffle that remember
//!
//! A `forward` that calls `chunk(2, 1)` cuts the slimmed tensor by count, so both halves must lose
//! the same positions; `chunk(a, 2, 0)` says so. [`nn::Split`](crate::nn::Split) and
//! [`nn::Shuffle`](crate::nn::Shuffle) store sizes and order, which slimming updates, and tie
//! nothing.
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct Unit {
//!     split: nn::Split,
//!     #[prune(from = split.1)]
//!     conv: nn::Conv2D,
//!     bn: nn::BatchNorm,
//!     #[prune(from = [split.0, bn])]
//!     shuffle: nn::Shuffle,
//! }
//! ```
//!
//! ## U-Net: skips
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! # type Double = (nn::Conv2D, nn::BatchNorm);
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct UNet {
//!     down1: Double,
//!     down2: Double, // behind a pool
//!     up: nn::ConvTranspose2D,
//!     #[prune(from = [down1, up])]
//!     merge: Double,
//!     head: nn::Conv2D,
//! }
//! ```
//!
//! ## Layers of different types, several tensors, one layer twice
//!
//! ```
//! # use slim_runtime::{Prunable, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! enum Layer {
//!     Conv(nn::Conv2D),
//!     Norm(nn::BatchNorm),
//!     Relu, // no field: channels pass on
//! }
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(input = (3, 3), output = (head, head(right)))]
//! struct Siamese {
//!     #[prune(from = input.0)]
//!     left: Vec<Layer>,
//!     #[prune(from = input.1)]
//!     right: Vec<Layer>,
//!     #[prune(from = left)]
//!     head: nn::Linear, // applied to both
//! }
//! ```
//!
//! ## Fields of other crates, and raw tensors
//!
//! `#[prune(with = path)]` names a function that says what a layer of another crate does;
//! `#[prune(per_channel)]` and `#[prune(per_channel = shift)]` stand on a `Tensor` with one value
//! per channel, `#[prune(elementwise)]` on anything that keeps channels as they are and maps zero
//! to zero.
//!
//! ## Activations
//!
//! That activations map zero to zero is taken for granted and need not be said.
//! [Absorption](crate::Absorb) alone has to know which they are: what a removed channel still sends
//! on is its β behind the activation. On a field, `act` is what its output passes in `forward`; in
//! an expression, an activation is a function:
//!
//! ```
//! # use slim_runtime::{Prunable, Slimming, nn};
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! #[prune(output = relu(bn2 + downsample))]
//! struct BasicBlock {
//!     conv1: nn::Conv2D,
//!     #[prune(act = relu)]
//!     bn1: nn::BatchNorm,
//!     conv2: nn::Conv2D,
//!     bn2: nn::BatchNorm,
//!     #[prune(from = input)]
//!     downsample: Option<(nn::Conv2D, nn::BatchNorm)>,
//! }
//!
//! let slimming = Slimming::ratio(0.5).absorb(); // and then `plan` and `apply`, or `apply` on a replica
//! ```
//!
//! An activation speaks for the batch norms of its own struct, `bn2` here, and of the parts in it:
//! between them and the activation nothing else happens. What a struct is given, as `input` where
//! there is no `downsample`, its owner says. Where nothing is said, the channels are dropped as
//! without absorption, and [`Slimmed`](crate::Slimmed) names the reader;
//! [`absorb_after`](crate::Slimming::absorb_after) says it for all at once, which is enough for a
//! chain. `#[prune(act = identity)]` says that there is none. [`model!`](crate::model) knows all of
//! this, and a `trace` by hand says it with [`Tracer::activation`](crate::Tracer::activation).
//!
//! A batch norm directly behind a convolution without bias absorbs for it. Where `forward` has an
//! activation between the two, say so: `#[prune(act = relu)]` on the convolution.
