//! What can go wrong, said with the field and the fix.

mod text;

use std::path::PathBuf;

use tch::TchError;

pub(crate) use text::without_backtrace;
use text::{known_layers, misfits};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Its text names the field or file, states the rule, then the fix.
///
/// Whatever the error, the model, its variable store and the file at hand are as they were before
/// the call.
///
/// Its `Debug` is its text too, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The share to remove is not in `[0, 1)`, or is NaN.
    #[error(
        "ratio {0}: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them"
    )]
    Ratio(f64),

    /// The parameter of an activation is infinite or NaN.
    #[error(
        "an activation with the parameter {0}: it must be finite, for instance `Activation::LeakyRelu(0.01)`"
    )]
    Activation(f64),

    /// The factor of the sparsity penalty is negative, infinite or NaN.
    #[error("sparsity factor {0}: it must be finite and not negative, for instance 1e-4")]
    SparsityFactor(f64),

    /// A layer takes another number of channels than the flow in front of it has.
    #[error("`{path}` takes {expected} {unit}{}, but {source_name} gives {found}{hint}", if *.expected == 1 { "" } else { "s" })]
    Width {
        /// Field path of the layer.
        path: String,
        /// Width of the layer's weight.
        expected: i64,
        /// What the width counts: `channel`, or `feature` of a flattened flow.
        unit: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Width of the flow.
        found: i64,
        /// What else it may be, and the fix; empty where nothing more is known.
        hint: String,
    },

    /// A tuple of flows reached a layer that takes one.
    #[error(
        "`{path}` takes one flow of channels, but gets a tuple of {found}; name one of its parts, `.0` for the first"
    )]
    Tuple {
        /// Field path of the layer.
        path: String,
        /// How many flows the tuple has.
        found: usize,
    },

    /// Two flows that must have the same width have not.
    #[error("`{path}`: {} ({} channels) {operator} {} ({} channels): widths differ", .left.0, .left.1, .right.0, .right.1)]
    Union {
        /// Field path of the struct that joins them.
        path: String,
        /// `+` or `*`.
        operator: &'static str,
        /// What gives the first flow, and its width.
        left: (String, usize),
        /// What gives the second flow, and its width.
        right: (String, usize),
    },

    /// A flow cannot be cut into so many equal parts.
    #[error(
        "`{path}`: {operation} cuts {source_name} ({width} channels) into {parts} equal parts, which it is no multiple of"
    )]
    Parts {
        /// Field path of the struct or layer that cuts.
        path: String,
        /// `chunk`, `shuffle`, `pixel_shuffle`, or the groups of a convolution.
        operation: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Its width.
        width: usize,
        /// How many parts there are to be.
        parts: usize,
    },

    /// A flow is not made of whole blocks.
    #[error(
        "`{path}`: {operation} makes one channel of {block}, and {source_name} has {width}, which is no multiple of it"
    )]
    Blocks {
        /// Field path of the struct that cuts.
        path: String,
        /// `pixel_shuffle` or `unflatten`.
        operation: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Its width.
        width: usize,
        /// How many channels become one.
        block: usize,
    },

    /// A tensor of several is asked for that is not there.
    #[error("`{path}`: part {index} is asked for, but there {}", if *.found == 1 { "is one tensor".to_owned() } else { format!("are {} tensors", .found) })]
    Part {
        /// Field path of the struct that asks.
        path: String,
        /// Which tensor.
        index: usize,
        /// How many there are.
        found: usize,
    },

    /// A plain tch depthwise convolution: its number of groups is private and would be wrong
    /// afterwards.
    #[error(
        "`{path}` is a depthwise convolution, and tch keeps its number of groups to itself; build it with the function of the same name in `slim_runtime::nn`, such as `conv2d` (same signature), whose groups follow the weight"
    )]
    PrivateGroups {
        /// Field path of the layer.
        path: String,
    },

    /// Something that a `forward` does cannot be read, at this place of its source.
    #[error("{at}: {error}")]
    Forward {
        /// File, line and column.
        at: String,
        /// What it is.
        error: Box<Error>,
    },

    /// The flow is still open: nothing has fixed how many channels the model's input has.
    #[error(
        "`{path}`: the number of input channels is not known here; write `#[prune(input = 3)]` on the struct"
    )]
    OpenInput {
        /// Field path of the struct that asked.
        path: String,
    },

    /// A tensor that a layer binds has a shape that the layer cannot have.
    #[error("`{path}.{tensor}` has shape {shape:?}, which {rule}")]
    Shape {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// What the shape should be.
        rule: String,
    },

    /// A bound tensor is computed from others, so that replacing its data would not reach the
    /// variable behind it.
    #[error(
        "`{path}.{tensor}` is computed from another tensor, so slimming it would not reach the variable in the store; keep the variable itself in the field"
    )]
    NotALeaf {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
    },

    /// Two fields share memory but not the tensor: one would be slimmed and the other not.
    #[error(
        "`{path}.{tensor}` shares the memory of `{owner}` but is another tensor (a `detach` or a view), so only one of the two would be slimmed; share it with `shallow_clone`"
    )]
    NotShared {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
        /// Path of the tensor that it shares memory with.
        owner: String,
    },

    /// A scale that ranks channels is NaN or infinite.
    #[error(
        "by `{path}.{tensor}`, channel {channel} has the score {value}: scores must be finite; where the weights are not, the training has diverged: load an earlier checkpoint or lower the learning rate"
    )]
    NonFinite {
        /// Field path of the layer.
        path: String,
        /// Name of the scoring tensor.
        tensor: String,
        /// Which channel.
        channel: usize,
        /// NaN or an infinity.
        value: f64,
    },

    /// No channel of the model may be removed.
    #[error("nothing to prune: {reason}")]
    NothingToPrune {
        /// Why not, and the fix.
        reason: String,
    },

    /// A hand-written `trace` describes a layer that cannot be.
    #[error("`{path}`: {reason}")]
    Layer {
        /// Field path of the layer.
        path: String,
        /// What is wrong, and the fix.
        reason: String,
    },

    /// No γ that is trained has a gradient.
    #[error(
        "no scale (γ) has a gradient yet; add the sparsity penalty behind `backward` and in front of `step`"
    )]
    NoGradient,

    /// State stored in a layer does not fit the flow that it was declared to describe.
    #[error("`{path}`: `{name}` should be {expected}, as the flow is, but is {found}")]
    State {
        /// Field path of the layer.
        path: String,
        /// Name of the state.
        name: String,
        /// What the flow asks for.
        expected: String,
        /// What the layer stores.
        found: String,
    },

    /// All scores are equal, as in a network that has not been trained.
    #[error("every {} {}that could go is {score}, so nothing tells the channels apart and the rule would remove all of them; train first{}", if .criterion == "batch_norm_scale" { "|γ|" } else { "score" }, .layer.as_ref().map(|path| format!("of `{path}` ")).unwrap_or_default(), if .criterion == "batch_norm_scale" { ", with `add_l1_subgradient` between `backward` and `step`" } else { "" })]
    NoRanking {
        /// The one score.
        score: f64,
        /// Name of the criterion.
        criterion: String,
        /// Path of the first of the layers that compete, where that is not the whole network.
        layer: Option<String>,
    },

    /// What is asked for cannot be.
    #[error("{reason}")]
    Slimming {
        /// What cannot be, and the fix.
        reason: String,
    },

    /// A pattern or path names no layer.
    #[error("no layer is called `{pattern}`{}", known_layers(.pattern, .known))]
    NoLayer {
        /// The pattern or path.
        pattern: String,
        /// Paths of the layers that there are.
        known: Vec<String>,
    },

    /// A number of channels or a budget that the network cannot come down to.
    #[error(
        "{target} is out of reach: that would be at most {most}, and {least} stay when all goes that may go; ask for more, or lift a bound or a hold that keeps them"
    )]
    OutOfReach {
        /// The target.
        target: String,
        /// What is allowed.
        most: u64,
        /// What is left when all goes that may.
        least: u64,
    },

    /// A criterion gave other scores than one for each channel.
    #[error(
        "the criterion `{criterion}` gives `{path}` scores of shape {found:?}, not one for each of its {channels} channels"
    )]
    Scores {
        /// Name of the criterion.
        criterion: String,
        /// Field path of the layer.
        path: String,
        /// How many channels the layer has.
        channels: usize,
        /// The shape of the scores.
        found: Vec<i64>,
    },

    /// A slimming was read from a file and its criterion is another program's.
    #[error(
        "the criterion `{name}` is not one of this crate's, and only its name is in the file; give it again with `Slimming::criterion`"
    )]
    UnknownCriterion {
        /// Its name.
        name: String,
    },

    /// `trace` declared state that `layers_mut` does not reach, or the other way round.
    #[error(
        "`{path}`: `{name}` is declared in `{declared}` but not in `{missing}`; a hand-written `Prunable` must name its state in both"
    )]
    UnreachedState {
        /// Field path of the layer.
        path: String,
        /// Name of the state.
        name: String,
        /// The method that names it.
        declared: &'static str,
        /// The method that does not.
        missing: &'static str,
    },

    /// A layer was given a batch where the cost of one sample is asked for.
    #[error(
        "`{path}` is given a batch of {batch}, and a cost is that of one sample: run `forward` on a batch of one, or say with `cost_of_batch` how many samples it runs (one, if the batch is made of parts of a sample)"
    )]
    Batch {
        /// Field path of the layer.
        path: String,
        /// Size of the first dimension of its input.
        batch: i64,
    },

    /// A forward pass cannot be one of so many samples.
    #[error("{samples} samples: {reason}")]
    Samples {
        /// How many they are said to be.
        samples: i64,
        /// Why they cannot be, and the fix.
        reason: String,
    },

    /// The MACs of a network are asked for, and not all of its layers are counted.
    #[error("the MACs of this network are not all counted:\n  {}", .reasons.join("\n  "))]
    Uncounted {
        /// Each layer that is not counted, why, and the fix.
        reasons: Vec<String>,
    },

    /// The slimmed network is not the masked one: the wiring and `forward` disagree. The model is
    /// as it was.
    #[error(
        "the slimmed network is not the masked one, so `forward` does something that the fields do not say (another order, another reader, an activation that does not map zero to zero); compare the two here:\n  {}",
        .places.join("\n  ")
    )]
    Diverged {
        /// For each set of channels that makes a difference by itself: their layers, by path, and
        /// the difference.
        places: Vec<String>,
    },

    /// The network has been deployed: weights and batch norms are not what they were.
    #[error(
        "`{path}` has been deployed, and is for inference alone; build the network anew, load its weights, and do this before `deploy`"
    )]
    Deployed {
        /// Field path of the first layer that shows it.
        path: String,
    },

    /// The network with its batch norms folded is not the network. The model is as it was.
    #[error(
        "the network with its batch norms folded computes something else, so there is something between a layer and its batch norm that the fields do not say, such as an activation; say it (`#[prune(act = relu)]` on the layer), and this batch norm stays:\n  {}",
        .places.join("\n  ")
    )]
    Folding {
        /// For each set of batch norms that make a difference by themselves: where they went, and
        /// the difference.
        places: Vec<String>,
    },

    /// The tolerance of a comparison is negative, infinite or NaN.
    #[error(
        "tolerance {0}: it must be finite and not negative, for instance 1e-4 of the largest output"
    )]
    Tolerance(f64),

    /// The output on a sample cannot tell whether two networks are the same.
    #[error("nothing was verified: {reason}")]
    Unverified {
        /// Why not, and the fix.
        reason: String,
    },

    /// The statistics of a batch norm could not be estimated anew. They are what they were.
    #[error("cannot recalibrate `{path}`: {reason}")]
    Recalibration {
        /// Field path of the batch norm, or `model`.
        path: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// A closure that was to measure the network has changed its running statistics. They are what
    /// they were again.
    #[error(
        "the closure changed `{tensor}`, so it runs the network in training mode; call its forward pass with `train = false`"
    )]
    TrainingMode {
        /// Path of the first tensor that changed.
        tensor: String,
    },

    /// What was to be measured cannot be, or panics.
    #[error("nothing was measured: {reason}")]
    Benchmark {
        /// Why not, and the fix.
        reason: String,
    },

    /// A network cannot be written in this form. What was at the path before is still there.
    #[error("{}: cannot export: {reason}", .file.display())]
    Export {
        /// The file that was to be written.
        file: PathBuf,
        /// Why not, and the fix.
        reason: String,
    },

    /// On the slimmed network `forward` does something else than the dense one without the removed
    /// channels: slimming was undone.
    #[error(
        "slimming was undone, since `forward` does something else on the slimmed network: {difference}; keep the channels that it depends on (`#[prune(keep)]`, `Slimming::keep`), or make it independent of their number"
    )]
    Undone {
        /// The first difference, with its lines.
        difference: String,
    },

    /// The plan was made for another network.
    #[error("the plan does not fit this model: {difference}")]
    PlanMismatch {
        /// The first difference.
        difference: String,
    },

    /// The plan contradicts itself or empties a layer.
    #[error("the plan cannot be used: {reason}")]
    PlanInvalid {
        /// Where and why.
        reason: String,
    },

    /// A later plan was not made for what the earlier one leaves.
    #[error(
        "the plans do not follow each other: {difference}; make the later plan of the network that the earlier one was applied to"
    )]
    PlanSequence {
        /// The first difference.
        difference: String,
    },

    /// A tensor of the model is in none of the store's variables.
    #[error(
        "`{path}.{tensor}` is no variable of this store; pass the store that the model was built with"
    )]
    NotInStore {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
    },

    /// A cfg is not of the form `[64, 'M', 128]`.
    #[error(
        "cfg `{text}`: {reason}; write `[64, 'M', 128]`: widths of at least 1, and 'M' for a max-pool"
    )]
    Cfg {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A cfg is of another network, or does not say which channels of this one stay.
    #[error("cfg `{cfg}` does not fit this model: {difference}")]
    CfgMismatch {
        /// The cfg, as text.
        cfg: String,
        /// The first difference.
        difference: String,
    },

    /// The tensors of a file and of the store are not the same. Nothing was written to the store.
    #[error("{}: {} the store; build the network as the file's was (`checkpoint::load` then slims it by the file's plan):\n  {}", .file.display(), misfits(.problems.len()), .problems.join("\n  "))]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// Each missing, surplus or misshapen tensor, by name.
        problems: Vec<String>,
    },

    /// A file was saved of another network: the model is neither what was slimmed nor what came of
    /// it.
    #[error(
        "{}: the model is neither the network that the file's was slimmed from nor the slimmed one; build it as the file's was built, and save what was slimmed twice with both, `first.then(&second)`:\n  dense: {dense}\n  slim: {slim}", .file.display()
    )]
    CheckpointModel {
        /// The file.
        file: PathBuf,
        /// The first difference from the network that was slimmed.
        dense: String,
        /// The first difference from the slimmed network.
        slim: String,
    },

    /// A layer of the model stores another order of channels than the one in the file.
    #[error("{}: `{state}` picks other channels in the model than in the file; build the network as the file's was built, and leave it dense or slim it by the plan of this file", .file.display())]
    CheckpointPositions {
        /// The file.
        file: PathBuf,
        /// Field path of the layer, and the name of what it stores.
        state: String,
    },

    /// The file is no sound safetensors file.
    #[error("{}: {reason}", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Reading or writing a file failed.
    #[error("{}: cannot {action}: {cause}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        cause: std::io::Error,
    },

    /// libtorch refused; out of memory, for instance.
    #[error("`{context}`: {}", without_backtrace(.cause))]
    Torch {
        /// The tensor at hand, by field path.
        context: String,
        /// libtorch's own words, with a backtrace of its own that the text of this error leaves
        /// out.
        cause: TchError,
    },

    /// Anything else that a hand-written `Prunable` reports.
    #[error("{0}")]
    Custom(String),
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// For `map_err`: libtorch's error with the tensor that was at hand.
    pub(crate) fn torch(context: impl Into<String>) -> impl FnOnce(TchError) -> Error {
        let context = context.into();
        move |cause| Error::Torch { context, cause }
    }
}
