//! Prunable model definitions for [tch](https://docs.rs/tch): annotate a struct of layers, call
//! [`slim`](Prunable::slim), and get a smaller network that computes the same function.
//!
//! ```
//! use slim_runtime::{Prunable, forward};
//! use tch::{Device, Tensor, nn};
//!
//! #[derive(Debug, Prunable)]
//! struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
//!
//! impl Net {
//!     fn new(p: &nn::Path) -> Self {
//!         Net {
//!             conv1: nn::conv2d(p / "conv1", 1, 16, 3, Default::default()),
//!             bn1: nn::batch_norm2d(p / "bn1", 16, Default::default()),
//!             conv2: nn::conv2d(p / "conv2", 16, 32, 3, Default::default()),
//!             bn2: nn::batch_norm2d(p / "bn2", 32, Default::default()),
//!             fc: nn::linear(p / "fc", 32, 10, Default::default()),
//!         }
//!     }
//! }
//!
//! #[forward] // the wiring is read from here
//! impl nn::ModuleT for Net {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
//!         let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
//!         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(&vs.root());
//! let slimmed = net.slim(0.5)?; // half of the channels, those with the smallest |γ|
//! println!("{slimmed}");
//!
//! // Fields and variable store have shrunk together, and the same `forward` runs.
//! let channels = slimmed.plan().channels();
//! assert_eq!((channels.before, channels.after), (48, 23));
//! assert_eq!(net.conv2.ws.size()[1], net.conv1.ws.size()[0]);
//! assert_eq!(nn::ModuleT::forward_t(&net, &Tensor::zeros([1, 1, 8, 8], tch::kind::FLOAT_CPU), false).size(), [1, 10]);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! # The way through this crate
//!
//! 1. **Annotate.** Put [`#[derive(Prunable)]`](derive@Prunable) on the struct and
//!    [`#[forward]`](macro@forward) above its forward pass, from which the wiring is read: see the
//!    [`guide`]. Or define the network once with [`model!`]. Fields can be tch's layers, containers
//!    and derived types; [`nn`] has drop-in layers whose number of groups follows the weight, a
//!    split and a shuffle.
//! 2. **Train with sparsity.** Call [`add_l1_subgradient`](Prunable::add_l1_subgradient) between
//!    `backward` and `step`. [`guide::training`] has other penalties, and pruning while a network
//!    is trained.
//! 3. **Slim.** [`slim`](Prunable::slim) is [`plan`](Prunable::plan) and [`apply`](Prunable::apply)
//!    in one. A [`Plan`] is data: print it, save it, keep a snapshot of it in a test, apply it to a
//!    replica. [`Slimming`] says [how many channels to remove, and which first](guide::choosing).
//!    [`Slimming::verify`] slims only if the slimmed network computes on a sample what the masked
//!    network computes. [`cost`](Prunable::cost) counts parameters and MACs, and [`Cost::after`]
//!    counts those that a plan leaves. A [`Sweep`] measures the network's accuracy at several
//!    ratios. [`dependencies`](Prunable::dependencies) shows which layers lose channels together,
//!    as a table and as a graph.
//! 4. **Repair**, instead of fine-tuning or before it: [`Slimming::absorb`] keeps the constants
//!    that removed channels still send on, [`Reconstruction`] solves the weights of their readers
//!    anew from data, [`recalibrate`] estimates batch-norm statistics anew.
//! 5. **Fine-tune** with a new optimizer, and save with [`checkpoint`]: a dense network of the same
//!    definition loads the file in one call. A [`Cfg`] holds the widths from which a network can be
//!    built narrow.
//! 6. **Slim again.** [`Slimmed::then`] and [`Plan::then`] compose slimmings, so a network always
//!    knows [its original channels](Plan::original_channels); [`Plan::expand`] puts its weights
//!    back into the original shapes.
//! 7. **Deploy.** [`deploy`](deploy()) folds batch norms into the layers beside them, lays
//!    weights out in the layout that is fastest on a sample, and keeps `forward`: see
//!    [`guide::deploying`].
//!
//! # What is guaranteed
//!
//! In evaluation mode the slimmed network computes what the original network computes when γ and β
//! of the removed channels are zero: the wiring is read from `forward`, and read again after
//! surgery, before the new tensors are final. For a [declared](guide::declaring) wiring this holds
//! if `forward` does what the fields say; [`Slimming::verify`] checks that on a sample. A channel
//! that some layer reads without a batch norm in between is never removed, unless the criterion
//! [masks every parameter](criterion::Masking). With [absorption](Absorb) the slimmed network
//! computes what the original network computes with γ set to zero and β kept, wherever
//! [`Slimmed::absorbed`] reports an exact absorption. After an error or a panic the model is
//! unchanged, to the bit.

extern crate self as slim_runtime; // so that generated code finds it in this crate

mod analysis;
mod check;
pub mod error;
mod fault;
mod graph;
pub mod guide;
mod io;
mod model;
pub mod nn;
mod numeric;
mod panics;
mod plan;
mod prunable;
mod select;
mod serve;
mod slimming;
mod surgery;
pub mod symbolic;
mod table;
mod train;

pub use analysis::cost::{Cost, LayerCost, TensorCost};
pub use analysis::dependencies::{self, Dependencies};
pub use analysis::latency::LayerLatencies;
pub use check::search::{Individual, Search};
pub use check::sensitivity::{GroupSensitivity, Sensitivity};
pub use check::sweep::{Evaluation, Point, Sweep, Swept};
pub use check::verify::{Verified, Verify};
pub use error::{Error, Result};
pub use graph::{
    Activation, Axis, Flow, KeepList, KeepReason, LayerKind, LayerTracer, LayerVisitor,
    PartVisitor, Role, Tracer,
};
pub use io::checkpoint;
#[cfg(feature = "pytorch")]
pub use io::weights;
pub use nn::functional;
pub use nn::{PerChannel, per_channel_scale, per_channel_shift};
pub use numeric::{LayerGroups, LayerOperation, LayerShape, OutputError, Quartiles, Uses};
pub use plan::{
    Absorbed, Absorption, AxisPlan, Bounded, Cfg, Change, Dim, LayerPlan, Pass, Plan, Scored,
    Slimmed, Stage, TensorPlan, Unscored, Warning,
};
pub use prunable::Prunable;
pub use select::{ChannelDecision, Explanation, Reason};
pub use serve::benchmark::{Benchmark, Compared, Interleaved, Latency, Speedup, benchmark};
pub use serve::deploy::{Deployed, DeployedNorm, Layout, LayoutTrial, NormOutcome, deploy};
pub use serve::export;
pub use serve::latency::{LatencyCheck, LatencyOptions, LatencyTable, PredictedLatency};
pub use serve::preferred_multiple::{Measurement, PreferredMultiple, preferred_multiple};
pub use slim_derive::{Prunable, forward};
pub use slimming::criterion;
pub use slimming::{
    Absorb, Bounds, CoupledLayers, Coupling, Direction, Rounding, Rule, Scope, Slimming, Target,
};
pub use symbolic::{Forward, Traced};
pub use train::distillation::distillation_loss;
pub use train::gradual::GradualPruning;
pub use train::recalibrate::{recalibrate, recalibrated};
pub use train::reconstruct::{LeftLayer, Reconstructed, ReconstructedLayer, Reconstruction};
pub use train::regulariser::{Penalty, Regulariser};
pub use train::schedule::Schedule;

/// Items that generated code uses, so that a user's crate needs no dependency but this one; the
/// style of tables, for the programs of this workspace; and what `slim-serve` shares with `deploy`.
#[doc(hidden)]
pub mod __private {
    pub use slim_derive::model;
    pub use tch;

    pub use crate::graph::fields::{
        Field, FieldMut, IsTensor, VisitLayer, VisitNoLayer, VisitOther, VisitPart, VisitTensor,
    };
    pub use crate::panics::caught;
    pub use crate::serve::benchmark::{faster, with_spread};
    pub use crate::serve::parity::ExpectedOutput;
    pub use crate::symbolic::dispatch::{
        BorrowTensor, Common, Held, IntoTensor, TensorLike, needs_argument,
    };
    pub use crate::symbolic::{
        Lift, Outputs, ReadsForward, SymbolicModule, declared, expect_shapes, symbolic_map,
        symbolic_opaque, trace_forward,
    };
    pub use crate::table::{STYLE as TABLE_STYLE, grouped, percent, percent_asked, table};
}
