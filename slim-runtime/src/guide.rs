//! Wiring: how slim knows what your network does.
//!
//! It reads your own `forward`. Two attributes on a network that exists are all there is to write:
//!
//! ```
//! use slim_runtime::{Prunable, forward, nn};
//! use tch::Tensor;
//!
//! #[derive(Debug, Prunable)]
//! struct Block {
//!     conv1: nn::Conv2D,
//!     bn1: nn::BatchNorm,
//!     conv2: nn::Conv2D,
//!     bn2: nn::BatchNorm,
//!     downsample: Option<(nn::Conv2D, nn::BatchNorm)>,
//! }
//!
//! #[forward]
//! impl nn::ModuleT for Block {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let ys = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
//!         let ys = ys.apply(&self.conv2).apply_t(&self.bn2, train);
//!         let shortcut = match &self.downsample {
//!             Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
//!             None => xs.shallow_clone(),
//!         };
//!         (ys + shortcut).relu()
//!     }
//! }
//! ```
//!
//! The attribute leaves the `impl` as it is and emits its body once more, where `Tensor` means a
//! [symbolic value](crate::Traced) that has a tensor's methods. Rust itself runs the loops,
//! matches, closures and helper methods; each operation records what it does to channels. The order
//! of the fields does not matter.
//!
//! [`#[forward]`](crate::forward) stands above `impl nn::ModuleT`, `impl nn::Module`, an inherent
//! `impl` (a `forward_t` of several inputs or outputs, helper methods), and functions that take
//! tensors. Its page says what changes for methods and functions.
//!
//! Types whose fields are layers, containers of layers (tuples, [`Vec`], [`Option`], [`Box`],
//! arrays), trait objects `Box<dyn Layer>` with `trait Layer: ModuleT + Prunable`, generic types
//! and enums of any form work. Fields of other types are left alone. A `Tensor` field follows the
//! channels that it meets: a scale `self.gamma.view([1, -1, 1, 1])`, a class token, a position
//! bias. [`blocks`] and [`transformers`] show networks of today.
//!
//! # When a channel may go
//!
//! A channel may only go where every reader sees zeros once its γ and β are zero. Behind a batch
//! norm it is *gated*; a sum is gated where both sides are, a product where either is. A sigmoid, a
//! number or a constant that is added, and a layer that makes channels un-gate. Who reads an
//! ungated channel keeps it, and the plan names that reader. Channels that are added are one: all
//! layers that write to a residual stream lose the same positions, by the largest |γ| among them.
//! [`operations`] lists what each operation does.
//!
//! # Numbers in `forward`
//!
//! Numbers of channels change when a network is slimmed, so those that `forward` writes out would
//! be wrong. Compute them from sizes:
//!
//! ```
//! # use slim_runtime::forward;
//! # use tch::Tensor;
//! /// Groups interleaved: each group loses the same channels.
//! #[forward]
//! fn shuffle(xs: &Tensor, groups: i64) -> Tensor {
//!     let (n, c, h, w) = xs.size4().unwrap();
//!     xs.view([n, groups, c / groups, h, w]).transpose(1, 2).contiguous().view([n, c, h, w])
//! }
//! ```
//!
//! A view, a `narrow` or a `select` whose number would be wrong after slimming is refused, with the
//! line and the fix. [`nn::Split`](crate::nn::Split), [`nn::Shuffle`](crate::nn::Shuffle) and
//! [`nn::ChannelSelect`](crate::nn::ChannelSelect) store sizes and positions that follow the
//! channels, and tie nothing.
//!
//! Sizes of images are not known to the symbolic pass. A `forward` that gives them to views works
//! for every size. One that does anything else with them, as in `if h > 7`, is run for several
//! sizes, which must do the same; where no view uses them the plan says so with the line. Write the
//! shape of your images on the struct, `#[prune(input = [3, 224, 224])]`, or plan on a sample with
//! [`plan_on`](crate::Prunable::plan_on), and everything is a number;
//! [`cost_by_shape`](crate::Prunable::cost_by_shape) then counts MACs without running anything.
//!
//! # What cannot be read
//!
//! An operation that has no symbolic meaning is a compile error at its name: "no method named
//! `fft_rfft2` found for struct `Traced`". One that cannot be followed is an error with file, line
//! and column when the network is planned. Two functions are ways out:
//!
//! ```
//! # use slim_runtime::{Prunable, forward, functional, nn};
//! # use tch::Tensor;
//! # #[derive(Debug, Prunable)]
//! # struct Net { conv1: nn::Conv2D, bn: nn::BatchNorm, conv2: nn::Conv2D }
//! #[forward]
//! impl nn::ModuleT for Net {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let xs = xs.apply(&self.conv1).apply_t(&self.bn, train);
//!         // Any function of each element: whether zero stays zero is computed.
//!         let xs = functional::map(&xs, |xs| xs.erf() * xs);
//!         // Anything: its input stays whole.
//!         let xs = functional::opaque(&xs, |xs| xs.fft_rfft2(None::<&[i64]>, &[-2, -1][..], "ortho").abs());
//!         xs.apply(&self.conv2)
//!     }
//! }
//! ```
//!
//! # The check after surgery
//!
//! Inside the transaction that slims the network, the symbolic pass runs once more. Its graph must
//! be the dense one without the removed channels, or everything is put back, to the bit, and the
//! error names both lines. This finds a branch that flips at the new width, an index that moved,
//! and a number, a size or a constant that `forward` computes from a width, from weights or from
//! statistics: `xs / Tensor::from(c as f64)`, `xs / self.conv.ws.norm()`. Random numbers in
//! training, as those of stochastic depth, are no difference.
//!
//! A `forward` is told numbers of channels multiplied by a prime, so that they differ from numbers
//! that are written out: multiply and divide them, and give them to views. What it does to fields
//! that are tensors, as a counter of steps, is taken back.
//!
//! # Layers that only training applies
//!
//! The pass runs for evaluation and for training. A head that `forward` applies only where `train`
//! is true is slimmed too, so that fine-tuning goes on. A layer that neither applies is an error
//! that names it; `#[prune(skip)]` leaves a field out, and `#[prune(keep)]` keeps its channels.
//!
//! # Declared wirings
//!
//! `#[prune(sequential)]` on a type declares that its fields are applied in the order of their
//! declaration: see [`declaring`]. [`model!`](crate::model) defines struct, constructor and
//! `forward` from one text, and its wiring is read from that `forward`.
//!
//! # Grouped and depthwise convolutions
//!
//! A depthwise convolution follows its input, `nn::conv2d` with as many groups as inputs. In a
//! grouped one every group loses the same number of channels; where a group is a path of its own,
//! as in ResNeXt, whole groups go:
//!
//! ```
//! # use slim_runtime::nn;
//! # let vs = nn::VarStore::new(tch::Device::Cpu);
//! # let p = vs.root();
//! let grouped = nn::ConvConfig { groups: 32, ..Default::default() };
//! let paths = nn::conv2d(&p / "conv2", 128, 128, 3, grouped).whole_groups();
//! ```
//!
//! # Layers of your own, and of other crates
//!
//! A layer says which dimension of which tensor follows which channels;
//! [`Prunable`](crate::Prunable) shows one. A type of another crate gets a newtype:
//!
//! ```
//! use slim_runtime::{Flow, LayerKind, Prunable, Result, Tracer, nn};
//! use tch::Tensor;
//!
//! /// Of another crate.
//! #[derive(Debug)]
//! struct Film { scale: Tensor, shift: Tensor }
//!
//! #[derive(Debug)]
//! struct PrunableFilm(Film);
//!
//! impl nn::Module for PrunableFilm {
//!     fn forward(&self, xs: &Tensor) -> Tensor {
//!         xs * self.0.scale.view([1, -1, 1, 1]) + self.0.shift.view([1, -1, 1, 1])
//!     }
//! }
//!
//! impl Prunable for PrunableFilm {
//!     fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
//!         let mut layer = cx.layer(LayerKind::other("film"));
//!         let channels = layer.follow("channels", &input, self.0.scale.size()[0])?;
//!         layer.parameter("scale", &self.0.scale, &[(0, channels)])?;
//!         layer.parameter("shift", &self.0.shift, &[(0, channels)])?;
//!         layer.ungate(channels) // the shift is there whatever the batch norm's γ
//!     }
//! }
//! ```
//!
//! A layer that mixes channels reads some and makes others. What it makes is ungated until a batch
//! norm behind it:
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
//! Its forward pass says how often a weight is used, with
//! [`nn::record_macs`](crate::nn::record_macs), or [`cost`](crate::Prunable::cost) names it as
//! uncounted.
//!
//! # The wiring, to look at
//!
//! [`dependencies`](crate::Prunable::dependencies) prints which channels stay or go together, who
//! makes, scales and reads them, and why some may not go. Its
//! [`to_dot`](crate::Dependencies::to_dot) and [`to_mermaid`](crate::Dependencies::to_mermaid) draw
//! the data flow with the coupled layers in colours:
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
//! # What stays
//!
//! | | |
//! | --- | --- |
//! | the model's input and output | always |
//! | channels that no batch norm scores | a convolution without a batch norm behind it |
//! | channels that a layer reads ungated | the plan names the layer |
//! | in front of a layer norm; one by one in front of a group norm, where [whole groups](crate::nn::GroupNorm) go | its statistics mix channels |
//! | the stream in front of a [`ChannelSelect`](crate::nn::ChannelSelect) | each block picks from it, as in the reference's pre-activation networks |
//! | `#[prune(keep)]` | |

pub mod blocks;
pub mod choosing;
pub mod declaring;
pub mod deploying;
pub mod measuring;
pub mod operations;
pub mod serving;
pub mod tour;
pub mod training;
pub mod transformers;
