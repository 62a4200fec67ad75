//! A layer in a graph: which of its tensors' dimensions follow which channels.

use std::borrow::Cow;
use std::panic::Location;
use std::rc::Rc;

use tch::Tensor;

use super::value::{ChannelId, ValueId};
use crate::graph::{KeepReason, LayerKind, Role};

/// One layer: which of its tensors' dimensions follow which channels.
pub(crate) struct LayerNode {
    pub(crate) path: String,
    pub(crate) kind: LayerKind,
    pub(crate) maker: Maker,
    pub(crate) axes: Vec<AxisNode>,
    pub(crate) tensors: Vec<TensorNode>,
    /// What its channels may be ranked by.
    pub(crate) ranked: Option<Ranked>,
    /// State that is no tensor, by name.
    pub(crate) states: Vec<(&'static str, State)>,
    /// The values that it is given.
    pub(crate) arrivals: Vec<ValueId>,
    /// The channels that it mixes.
    pub(crate) reads: Vec<ReadNode>,
    /// How it mixes them, where that is known.
    pub(crate) mix: Option<MixNode>,
    /// Of a batch norm: its momentum, where it can be read.
    pub(crate) momentum: Option<f64>,
    /// How often each value of its weight is multiplied for one sample, where the dimensions are
    /// known: outputs of a convolution, inputs of a transposed one, rows of a linear layer.
    pub(crate) uses: Option<i64>,
    /// Where a `forward` that is read applies it.
    pub(crate) at: Option<&'static Location<'static>>,
    /// Channels that it keeps from being removed, in the order in which it says so.
    pub(crate) holds: Vec<LayerHold>,
    /// Channels that it makes one, position by position.
    pub(crate) ties: Vec<Tie>,
    /// The values that leave it.
    pub(crate) results: Vec<LayerResult>,
    /// Whether the trace of the part around it says every activation behind it.
    pub(crate) is_said: bool,
}

/// Two lists of channels that are one, position by position.
pub(crate) type Tie = (Rc<[ChannelId]>, Rc<[ChannelId]>);

/// Channels that a layer keeps from being removed.
pub(crate) enum LayerHold {
    /// Those of a value that it reads and that are not gated.
    Ungated(ValueId),
    /// All of these.
    All(Rc<[ChannelId]>, KeepReason),
}

/// A value that leaves a layer.
pub(crate) struct LayerResult {
    pub(crate) value: ValueId,
    /// The axis whose channels it has.
    pub(crate) axis: usize,
    pub(crate) gate: LayerGate,
    /// Whether the layer does nothing to the values of its channels but move them.
    pub(crate) moves: bool,
    /// Of a batch norm: the tensor that is left when its scale is zero, or none where zero is.
    pub(crate) shift: Option<Option<usize>>,
    /// Whether it is the whole output of the layer, which makes its channels.
    pub(crate) whole: bool,
}

/// When the channels that leave a layer are gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerGate {
    /// As they arrived; where the layer made them, when all parameters of a removed channel are
    /// zero.
    Pass,
    Always,
    Never,
    /// A parameter is added: as they arrived when all parameters of a removed channel are zero,
    /// never otherwise.
    Shift,
    /// Divided by a parameter: as they arrived, but divided by zero when all parameters of a
    /// removed channel are zero.
    Divide,
    /// A parameter is divided by them: never, and infinite where they are zero.
    Pole,
}

/// Channels that a layer mixes.
pub(crate) struct ReadNode {
    pub(crate) axis: usize,
    /// Of a grouped layer the channels of all groups, where the axis is that of one.
    pub(crate) value: ValueId,
}

/// A layer that sums its inputs, weighted: `weight` has a dimension that follows them, one of
/// outputs, and those of a kernel.
pub(crate) struct MixNode {
    pub(crate) groups: usize,
    pub(crate) reach: BiasExactness,
}

/// Where an input that is one number everywhere makes the output one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasExactness {
    Everywhere,
    /// Where the kernel does not meet the padding.
    Interior,
    /// Nowhere: the kernel's positions take turns.
    Nowhere,
}

/// Whose code runs a layer, and so whether it reports how often its weight is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// This crate's, which reports.
    Slim,
    /// tch's, which cannot.
    Tch,
    /// A user's, which may.
    User,
}

/// A tensor of a layer that the channels of an axis may be ranked by: a scale, or the weights that
/// make them.
pub(crate) struct Ranked {
    pub(crate) tensor: usize,
    /// Its dimension that follows the axis.
    pub(crate) dim: usize,
    pub(crate) axis: usize,
    /// Whether it scales the channels and does not make them.
    pub(crate) is_scale: bool,
    /// Whether no layer before is ranked by the same tensor.
    pub(crate) first: bool,
}

/// State of a layer that depends on channels and is no tensor.
pub(crate) enum State {
    /// Numbers, each of which counts an axis.
    Sizes(Vec<usize>),
    /// For each channel of axis `to`, its position in axis `from`.
    Indices { from: usize, to: usize },
}

impl State {
    pub(crate) fn axes(&self) -> Vec<usize> {
        match self {
            State::Sizes(axes) => axes.clone(),
            State::Indices { from, to } => vec![*from, *to],
        }
    }
}

impl LayerNode {
    pub(super) fn new(path: String, kind: LayerKind, maker: Maker) -> Self {
        Self {
            path,
            kind,
            maker,
            axes: Vec::new(),
            tensors: Vec::new(),
            ranked: None,
            states: Vec::new(),
            arrivals: Vec::new(),
            reads: Vec::new(),
            mix: None,
            momentum: None,
            uses: None,
            at: None,
            holds: Vec::new(),
            ties: Vec::new(),
            results: Vec::new(),
            is_said: false,
        }
    }

    /// File, line and column of the place where a `forward` applies it.
    pub(crate) fn source(&self) -> Option<String> {
        self.at.map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column()))
    }

    /// Whether what the layer makes depends on parameters that follow it.
    pub(crate) fn makes_by_parameters(&self) -> bool {
        self.tensors.iter().any(|tensor| {
            tensor.role == Role::Parameter
                && tensor.axes.iter().flatten().any(|&axis| self.axes[axis].role.is_made())
        })
    }
}

/// A list of channels that dimensions of a layer's tensors follow.
pub(crate) struct AxisNode {
    pub(crate) name: Cow<'static, str>,
    /// The channels as this layer sees them.
    pub(crate) value: ValueId,
    pub(crate) ids: Rc<[ChannelId]>,
    pub(crate) role: AxisRole,
    /// How many of them the layer needs.
    pub(crate) least: usize,
}

/// What a layer does with the channels of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AxisRole {
    /// Mixes them.
    Read,
    /// Treats each by itself.
    Followed,
    /// Makes them.
    Made,
    /// Makes them, in equal parts of which this is one.
    MadePart,
}

impl AxisRole {
    pub(crate) fn is_made(self) -> bool {
        matches!(self, AxisRole::Made | AxisRole::MadePart)
    }
}

/// A tensor of a layer.
pub(crate) struct TensorNode {
    pub(crate) name: &'static str,
    pub(crate) tensor: Tensor,
    /// By dimension: the axis that it follows.
    pub(crate) axes: Vec<Option<usize>>,
    pub(crate) role: Role,
    /// Layer and tensor that bound this very tensor before.
    pub(crate) tied: Option<(usize, usize)>,
}
