//! Declared wirings: the order of the fields, with `from` and `output` for branches.
//!
//! `#[prune(sequential)]` on a struct declares that data flows through its fields in the order of
//! their declaration. A derive cannot see `forward`, so this is for groups of layers that have no
//! `forward` of their own, and for quick work: if the order of the fields differs from `forward`,
//! the slimmed network is wrong, and only [`verify`](crate::Slimming::verify) finds it. Plans,
//! reports and files list the types that declare their wiring until a verification has passed. All
//! other wirings are better [read from `forward`](super).
//!
//! A chain needs nothing more. Two attributes declare branches: `#[prune(from = …)]` on a field
//! declares what the field reads, `#[prune(output = …)]` on the struct declares what the struct
//! returns. They refer only to fields declared before, so a struct reads from top to bottom as its
//! `forward` does. All keys are listed at [`Prunable`](derive@crate::Prunable).
//!
//! ## ResNet: a sum
//!
//! Channels that are added form one channel group: all layers that write to a residual stream lose
//! the same positions, by the largest |γ| among them.
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
//! A channel may only go if every consumer sees zeros once its γ and β are zero. Without a batch
//! norm on the shortcut, `bn2 + shortcut` carries what the shortcut's convolution makes. Then the
//! stream stays, and the plan names the consumer.
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
//! The product is zero where `bn` is zero, whatever the value of the gate, so the channels of `bn`
//! may go, and the channels of the gate go with them.
//!
//! A gate of one channel (a spatial gate) multiplies all channels, so it stays.
//!
//! ## Pre-activation: a stream that keeps its width
//!
//! In front of its first batch norm, each block selects the channels that this batch norm keeps,
//! and the stream keeps its width. The reference implementation does the same, and its cfg applies.
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
//! A linear layer behind a flatten infers how many positions a channel has. If another layer reads
//! flattened channels, or if they are concatenated with other features, declare the number:
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
//! ## ShuffleNet: a split and a shuffle that store their positions
//!
//! A `forward` that calls `chunk(2, 1)` cuts the slimmed tensor by count, so both halves must lose
//! the same positions; declare this with `chunk(a, 2, 0)`. [`nn::Split`](crate::nn::Split) and
//! [`nn::Shuffle`](crate::nn::Shuffle) store sizes and order instead. Slimming updates them, and
//! they couple no channels.
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
//! `#[prune(with = path)]` names a function that traces a layer of another crate.
//! `#[prune(per_channel)]` and `#[prune(per_channel = shift)]` mark a `Tensor` with one value per
//! channel. `#[prune(elementwise)]` marks any field that keeps channels as they are and maps zero
//! to zero.
//!
//! ## Sequences, in `model!`
//!
//! [`model!`](crate::model) declares layers and forward pass at once, and its wiring is read. It
//! has words for the layers of [`nn`](crate::nn), also for those over sequences:
//!
//! ```
//! use slim_runtime::{Prunable, Slimming, criterion, model, nn};
//! use tch::{Device, Kind, Tensor};
//!
//! model! {
//!     #[derive(Debug)]
//!     struct Classifier(classes: i64) {
//!         embed = embedding(1000 => 64) at "transformer.wte";
//!         ln1 = layer_norm(64);
//!         attention = multi_head_attention(64, heads = 8);
//!         seen = embed + attention;
//!         ln2 = rms_norm(64);
//!         up = linear(64 => 256);
//!         gelu;
//!         down = linear(256 => 64);
//!         stream = seen + down;
//!         lstm = lstm(64 => 32, bidirectional = true);
//!         mean(1); // over the positions
//!         head = linear(64 => classes);
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Classifier::new(vs.root(), 10);
//! net.apply(&net.plan(&Slimming::ratio(0.5).criterion(criterion::L2).local())?)?;
//! assert!(net.attention.num_heads() < 8 && net.up.ws.size()[0] < 256);
//! let tokens = Tensor::zeros([2, 12], (Kind::Int64, Device::Cpu));
//! assert_eq!(nn::ModuleT::forward_t(&net, &tokens, false).size(), [2, 10]);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! Attention with a mask, or from one sequence to another, is written in a `forward`.
//!
//! ## Activations
//!
//! A declared wiring assumes that activations map zero to zero, so they need not be declared. Only
//! [absorption](crate::Absorb) has to know them: a removed channel still sends on its β behind the
//! activation. On a field, `act` is the activation that its output passes in `forward`. In an
//! expression, an activation is a function:
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
//! An activation applies to the batch norms of its own struct, `bn2` here, and of the structs
//! inside it: it states that nothing else happens between them and the activation. For an input of
//! the struct, such as `input` if there is no `downsample`, the owner of the struct declares the
//! activation. If none is declared, the channels are dropped as without absorption, and
//! [`Slimmed`](crate::Slimmed) names the consumer. [`absorb_after`](crate::Slimming::absorb_after)
//! declares the activation for all at once, which is enough for a chain. `#[prune(act = identity)]`
//! declares that there is none. [`model!`](crate::model) knows all activations, and a hand-written
//! `trace` declares them with [`Tracer::activation`](crate::Tracer::activation).
//!
//! A batch norm directly behind a convolution without bias absorbs for the convolution. If
//! `forward` has an activation between the two, declare it: `#[prune(act = relu)]` on the
//! convolution.
