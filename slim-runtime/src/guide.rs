//! Wiring: how a network's branches are said, with the blocks of well-known networks.
//!
//! A derive reads fields, and cannot see `forward`. In a chain the order of the fields is the data flow and nothing need be said. Everything else is said with two
//! attributes: `#[prune(from = …)]` on a field says what it reads, `#[prune(output = …)]` on the struct what comes out. What they refer to is declared
//! before, so a struct reads from top to bottom as its `forward` does.
//!
//! ## ResNet: a sum
//!
//! Channels that are added are one: all the layers that write to a residual stream lose the same positions, by the largest |γ| among them.
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
//! A channel may only go where every reader sees zeros once its γ and β are zero. Without a batch norm on the shortcut, `bn2 + shortcut` carries what the shortcut's
//! convolution makes, so the stream stays, and the plan names its reader.
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
//! The product is zero where `bn` is, whatever the gate says, so its channels may go; the gate's follow them.
//!
//! A gate of one channel (a spatial gate) multiplies all, and stays.
//!
//! ## Grouped and depthwise convolutions
//!
//! A depthwise convolution follows its input, `nn::conv2d` with as many groups as inputs. In a grouped one every group loses the same number of channels;
//! where a group is a path of its own, as in ResNeXt, whole groups go:
//!
//! ```
//! # use slim_runtime::nn;
//! # let vs = nn::VarStore::new(tch::Device::Cpu);
//! # let p = vs.root();
//! let grouped = nn::ConvConfig { groups: 32, ..Default::default() };
//! let paths = nn::conv2d(&p / "conv2", 128, 128, 3, grouped).whole_groups();
//! ```
//!
//! ## Pre-activation: a stream that keeps its width
//!
//! In front of its first batch norm, each block selects what that batch norm keeps, and the stream is left whole. This is the reference's way, with its cfg.
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
//! A linear layer behind a flatten finds out by itself how many positions a channel has. Where something else reads flattened channels, or they are joined with
//! other features, say it: `flatten(a, 49)`. A decoder's `view` from features to an image is `unflatten(a, 49)`.
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
//! A `forward` that calls `chunk(2, 1)` cuts the slimmed tensor by count, so both halves must lose the same positions; `chunk(a, 2, 0)` says so. [`nn::Split`](crate::nn::Split) and
//! [`nn::Shuffle`](crate::nn::Shuffle) store sizes and order, which slimming updates, and tie nothing.
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
//! Where levels are `Vec`s that are paired, write `trace` by hand; it is as long as `forward`:
//!
//! ```
//! use slim_runtime::{Flow, LayerVisitor, Prunable, Result, Tracer, nn};
//!
//! #[derive(Debug)]
//! struct Levels { down: Vec<(nn::Conv2D, nn::BatchNorm)>, up: Vec<(nn::Conv2D, nn::BatchNorm)> }
//!
//! impl Prunable for Levels {
//!     fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
//!         let mut skips = vec![input];
//!         for (i, down) in self.down.iter().enumerate() {
//!             let from = skips[i].clone();
//!             skips.push(cx.field(format!("down.{i}"), |cx| down.trace(cx, from))?);
//!         }
//!         let mut flow = skips.pop().unwrap_or_else(|| Flow::tuple([]));
//!         for (i, up) in self.up.iter().enumerate() {
//!             let skip = skips.pop().unwrap_or_else(|| Flow::tuple([]));
//!             let joined = cx.concat(&[skip, flow])?;
//!             flow = cx.field(format!("up.{i}"), |cx| up.trace(cx, joined))?;
//!         }
//!         Ok(flow)
//!     }
//!
//!     fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
//!         visit.field("down", |visit| self.down.layers_mut(visit))?;
//!         visit.field("up", |visit| self.up.layers_mut(visit))
//!     }
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
//! ## Layers of your own, and of other crates
//!
//! A layer says which dimension of which tensor follows which channels; [`Prunable`](crate::Prunable) shows one. For a type of another crate, a function does:
//!
//! ```
//! use slim_runtime::{Flow, LayerKind, Prunable, Result, Tracer, nn};
//! use tch::Tensor;
//!
//! /// Of another crate.
//! #[derive(Debug)]
//! struct Film { scale: Tensor, shift: Tensor }
//!
//! fn trace_film(film: &Film, cx: &mut Tracer, input: Flow) -> Result<Flow> {
//!     let mut layer = cx.layer(LayerKind::other("film"));
//!     let channels = layer.follow("channels", &input, film.scale.size()[0])?;
//!     layer.parameter("scale", &film.scale, &[(0, channels)])?;
//!     layer.parameter("shift", &film.shift, &[(0, channels)])?;
//!     layer.ungate(channels) // the shift is there whatever the batch norm's γ
//! }
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct Net {
//!     conv1: nn::Conv2D,
//!     #[prune(with = trace_film)]
//!     film: Film,
//!     bn: nn::BatchNorm,
//!     #[prune(per_channel)]
//!     slopes: Tensor, // of a PReLU: zero stays zero
//!     conv2: nn::Conv2D,
//! }
//! ```
//!
//! A layer that mixes channels reads some and makes others. What it makes is ungated until a batch norm behind it:
//!
//! ```
//! use slim_runtime::{Flow, LayerKind, Prunable, Result, Tracer};
//! use tch::Tensor;
//!
//! /// A 1×1 convolution of low rank: `up · (down · x)`.
//! #[derive(Debug)]
//! struct LowRank { down: Tensor, up: Tensor } // [rank, in], [out, rank]
//!
//! impl Prunable for LowRank {
//!     fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
//!         let mut layer = cx.layer(LayerKind::other("low rank"));
//!         let inputs = layer.read("in", &input, self.down.size()[1])?;
//!         let outputs = layer.write("out", self.up.size()[0])?;
//!         layer.parameter("down", &self.down, &[(1, inputs)])?; // the rank stays
//!         layer.parameter("up", &self.up, &[(0, outputs)])?;
//!         layer.pass(outputs)
//!     }
//! }
//! ```
//!
//! Its forward pass says how often a weight is used, with [`nn::record_macs`](crate::nn::record_macs), or [`cost`](crate::Prunable::cost) names it as uncounted.
//!
//! ## Activations
//!
//! That activations map zero to zero is taken for granted and need not be said. [Absorption](crate::Absorb) alone has to know which they are: what a removed channel still sends on is
//! its β behind the activation. On a field, `act` is what its output passes in `forward`; in an expression, an activation is a function:
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
//! An activation speaks for the batch norms of its own struct, `bn2` here, and of the parts in it: between them and the activation nothing else happens. What a struct is given, as
//! `input` where there is no `downsample`, its owner says. Where nothing is said, the channels are dropped as without absorption, and
//! [`Slimmed`](crate::Slimmed) names the reader; [`absorb_after`](crate::Slimming::absorb_after) says it for all at once, which is enough for a chain.
//! `#[prune(act = identity)]` says that there is none. [`model!`](crate::model) knows all of this, and a `trace` by hand says it with
//! [`Tracer::activation`](crate::Tracer::activation).
//!
//! A batch norm directly behind a convolution without bias absorbs for it. Where `forward` has an activation between the two, say so: `#[prune(act = relu)]` on the convolution.
//!
//! ## What the fields say, to look at
//!
//! [`dependencies`](crate::Prunable::dependencies) prints which channels stay or go together, who makes, scales and reads them, and why some may not go. Its
//! [`to_dot`](crate::Dependencies::to_dot) and [`to_mermaid`](crate::Dependencies::to_mermaid) draw the data flow with the coupled layers in colours:
//!
//! ```
//! # use slim_runtime::Prunable;
//! # fn show(net: &impl Prunable) -> slim_runtime::Result<()> {
//! let dependencies = net.dependencies()?;
//! println!("{dependencies}\n{}", dependencies.to_mermaid());
//! # Ok(())
//! # }
//! ```
//!
//! ## What stays
//!
//! | | |
//! | --- | --- |
//! | the model's input and output | always |
//! | channels that no batch norm scores | a convolution without a batch norm behind it |
//! | channels that a layer reads ungated | the plan names the layer |
//! | in front of a group norm or a layer norm | its statistics mix channels |
//! | the stream in front of a [`ChannelSelect`](crate::nn::ChannelSelect) | each block picks from it, as in the reference's pre-activation networks |
//! | `#[prune(keep)]` | |

pub mod choosing;
pub mod deploying;
pub mod measuring;
pub mod serving;
