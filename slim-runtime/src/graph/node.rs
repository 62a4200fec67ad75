//! A layer in a graph: which dimensions of its tensors follow which channels.

use std::borrow::Cow;
use std::panic::Location;
use std::rc::Rc;

use tch::Tensor;

use super::value::{ChannelId, ValueId};
use crate::graph::{KeepReason, LayerKind, Role};

/// One layer: which dimensions of its tensors follow which channels.
pub(crate) struct LayerNode {
    pub(crate) path: String,
    pub(crate) kind: LayerKind,
    pub(crate) maker: Maker,
    pub(crate) axes: Vec<AxisNode>,
    pub(crate) tensors: Vec<TensorNode>,
    /// The tensor that may rank the layer's channels.
    pub(crate) ranked: Option<Ranked>,
    /// State that is not a tensor, by name.
    pub(crate) states: Vec<(&'static str, State)>,
    /// The values that the layer receives.
    pub(crate) arrivals: Vec<ValueId>,
    /// The channels that the layer mixes.
    pub(crate) reads: Vec<ReadNode>,
    /// How the layer mixes channels, where that is known.
    pub(crate) mix: Option<MixNode>,
    /// A batch norm's momentum, where it can be read.
    pub(crate) momentum: Option<f64>,
    /// How often each element of the weight is multiplied for one sample, where the dimensions are
    /// known: output positions of a convolution, input positions of a transposed convolution, rows
    /// of a linear layer.
    pub(crate) uses: Option<i64>,
    /// The number of equal parts of the weight, of which the layer uses one.
    pub(crate) weight_parts: i64,
    /// Where a `forward` that is read applies the layer.
    pub(crate) at: Option<&'static Location<'static>>,
    /// Channels that the layer holds, in the order of its trace.
    pub(crate) holds: Vec<LayerHold>,
    /// Channels that the layer ties, position by position.
    pub(crate) ties: Vec<Tie>,
    /// The values that the layer outputs.
    pub(crate) results: Vec<LayerResult>,
    /// Whether the trace of the surrounding part names every activation behind the layer.
    pub(crate) is_said: bool,
}

/// Two lists of channels that stay or go together, position by position.
pub(crate) type Tie = (Rc<[ChannelId]>, Rc<[ChannelId]>);

/// Channels that a layer holds.
pub(crate) enum LayerHold {
    /// The channels of a value that the layer reads, where they are not gated.
    Ungated(ValueId),
    /// All of these channels.
    All(Rc<[ChannelId]>, KeepReason),
}

/// A value that a layer outputs.
pub(crate) struct LayerResult {
    pub(crate) value: ValueId,
    /// The axis whose channels the value has.
    pub(crate) axis: usize,
    pub(crate) gate: LayerGate,
    /// Whether the layer only moves its channels, and leaves their values as they are.
    pub(crate) moves: bool,
    /// Of a batch norm: the tensor that holds its shift, which is the output where the scale is
    /// zero, or `Some(None)` if there is no shift. `None` for any other layer.
    pub(crate) shift: Option<Option<usize>>,
    /// Whether the value is the whole output of a layer that makes its channels.
    pub(crate) whole: bool,
}

/// When the channels that leave a layer are gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerGate {
    /// As the layer received them. Channels that the layer made are gated if all parameters of a
    /// removed channel are set to zero.
    Pass,
    Always,
    Never,
    /// A parameter is added: gated as received if all parameters of a removed channel are set to
    /// zero, never otherwise.
    Shift,
    /// Divided by a parameter: gated as received, except if all parameters of a removed channel are
    /// set to zero, which is a division by zero.
    Divide,
    /// A parameter is divided by them: never gated, and infinite where they are zero.
    Pole,
}

/// Channels that a layer mixes.
pub(crate) struct ReadNode {
    pub(crate) axis: usize,
    /// The value that is mixed. In a grouped layer it has the channels of all groups, while the
    /// axis has those of one group.
    pub(crate) value: ValueId,
}

/// A layer that computes a weighted sum of its inputs. Its `weight` has a dimension that follows
/// the inputs, one that follows the outputs, and those of a kernel.
pub(crate) struct MixNode {
    pub(crate) groups: usize,
    pub(crate) reach: BiasExactness,
}

/// At which output positions a constant input gives a constant output, which a bias can replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasExactness {
    Everywhere,
    /// Where the kernel does not cover padding.
    Interior,
    /// Nowhere: outputs at different positions use different elements of the kernel.
    Nowhere,
}

/// Whose code runs a layer. This decides whether the layer reports how often its weight is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// This crate's: it reports.
    Slim,
    /// tch's: it cannot report.
    Tch,
    /// A user's: it may report.
    User,
}

/// A tensor of a layer that may rank the channels of an axis: a scale, or the weight that makes the
/// channels.
pub(crate) struct Ranked {
    pub(crate) tensor: usize,
    /// The tensor's dimension that follows the axis.
    pub(crate) dim: usize,
    pub(crate) axis: usize,
    /// Whether the tensor scales the channels, and does not make them.
    pub(crate) is_scale: bool,
    /// Whether no earlier layer is ranked by the same tensor.
    pub(crate) first: bool,
}

/// State of a layer that depends on channels and is not a tensor.
pub(crate) enum State {
    /// Numbers. Each one is the width of an axis.
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
    /// The name in `slim_runtime::nn` of the drop-in for a layer of tch that has this weight.
    pub(crate) fn drop_in(&self, weight: &TensorNode) -> String {
        let rank = weight.axes.len().saturating_sub(2);
        match self.kind {
            LayerKind::ConvTranspose => format!("conv_transpose{rank}d"),
            LayerKind::Linear => "linear".to_owned(),
            _ => format!("conv{rank}d"),
        }
    }

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
            weight_parts: 1,
            at: None,
            holds: Vec::new(),
            ties: Vec::new(),
            results: Vec::new(),
            is_said: false,
        }
    }

    /// File, line and column where a `forward` applies the layer.
    pub(crate) fn source(&self) -> Option<String> {
        self.at.map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column()))
    }

    /// The tensor that makes the channels of an axis, and the dimension that follows them: the
    /// first trained tensor that has another dimension, too. In a grouped transposed convolution
    /// the dimension follows the channels of one group.
    pub(crate) fn filter(&self, axis: usize) -> Option<(usize, usize)> {
        let makes = |other: usize| {
            let role = self.axes[other].role;
            other == axis && role != AxisRole::Read
                || role == AxisRole::MadePart && self.axes[axis].role == AxisRole::Made
        };
        let trained = |tensor: &TensorNode| tensor.role == Role::Parameter && tensor.axes.len() > 1;
        self.tensors.iter().enumerate().filter(|(_, tensor)| trained(tensor)).find_map(
            |(index, tensor)| {
                let follows = |followed: &Option<usize>| followed.is_some_and(makes);
                Some((index, tensor.axes.iter().position(follows)?))
            },
        )
    }

    /// Whether the channels that the layer makes have parameters that follow them.
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
    /// The smallest number of channels that the layer needs.
    pub(crate) least: usize,
}

/// What a layer does with the channels of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AxisRole {
    /// Mixes the channels.
    Read,
    /// Treats each channel by itself.
    Followed,
    /// Makes the channels.
    Made,
    /// Makes the channels; the axis is one of several equal parts.
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
    /// By dimension: the axis that the dimension follows.
    pub(crate) axes: Vec<Option<usize>>,
    pub(crate) role: Role,
    /// Layer and tensor that bound the same tensor first.
    pub(crate) tied: Option<(usize, usize)>,
}
