//! What a trace leaves behind: layers, each a list of bindings, and the classes of their channels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use tch::Tensor;

use super::{Arrival, Sent};
use crate::flow::ChannelId;
use crate::plan::{Dim, Hold, LayerKind, Role};

/// The channel dependencies of a model.
pub(crate) struct Graph {
    pub(crate) layers: Vec<LayerNode>,
    /// The class of each channel id, named by the class's first id. Channels of one class stay or go together.
    pub(crate) class: Vec<ChannelId>,
    /// By class: why none of its channels may be removed.
    pub(crate) held: Vec<Option<Rc<Hold>>>,
}

impl Graph {
    pub(crate) fn class(&self, id: ChannelId) -> usize {
        self.class[id as usize] as usize
    }

    /// `layer2.0.conv1.weight`
    pub(crate) fn tensor_path(&self, tensor: (usize, usize)) -> String {
        tensor_path(&self.layers, tensor)
    }

    /// Every scale that ranks channels, once, however many layers share it.
    pub(crate) fn scales(&self) -> impl Iterator<Item = (&LayerNode, &Ranked)> {
        let ranked = self
            .layers
            .iter()
            .filter_map(|layer| layer.ranked.as_ref().map(|ranked| (layer, ranked)));
        ranked.filter(|(_, ranked)| ranked.is_scale && ranked.first)
    }
}

/// `layer2.0.conv1.weight`
pub(super) fn tensor_path(layers: &[LayerNode], (layer, tensor): (usize, usize)) -> String {
    format!("{}.{}", layers[layer].path, layers[layer].tensors[tensor].name)
}

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
    pub(crate) details: Details,
}

/// What is beside a plan; empty but in a detailed trace, or a charted one.
#[derive(Default)]
pub(crate) struct Details {
    /// What it mixes.
    pub(crate) reads: Vec<ReadNode>,
    /// How, where that is known.
    pub(crate) mix: Option<MixNode>,
    /// Of a batch norm: its momentum, where it can be read.
    pub(crate) momentum: Option<f64>,
    /// Of a batch norm: the layer whose output it is given, as it is.
    pub(crate) behind: Option<usize>,
    /// The batch norm that reads its output, if nothing else does and nothing is in between.
    pub(crate) norm: Option<usize>,
    /// Whether a max-pool is between it and who reads it.
    pub(crate) maximum: bool,
    /// What it is given, and by whom: in a charted trace.
    pub(crate) arrivals: Vec<Arrival>,
}

/// Channels that a layer mixes.
pub(crate) struct ReadNode {
    pub(crate) axis: usize,
    /// What they carry; of a grouped layer those of all groups, where the axis is that of one.
    pub(crate) sent: Rc<[Sent]>,
}

/// A layer that sums its inputs, weighted: `weight` has a dimension that follows them, one of outputs, and those of a kernel.
pub(crate) struct MixNode {
    pub(crate) groups: usize,
    pub(crate) reach: Reach,
}

/// Where an input that is one number everywhere makes the output one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
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

/// A tensor of a layer that the channels of an axis may be ranked by: a scale, or the weights that make them.
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
    /// The dimensions of one of its tensors, by the names of their axes.
    pub(crate) fn dims(&self, tensor: &TensorNode) -> Vec<Dim> {
        let dim = |(size, axis): (i64, &Option<usize>)| {
            axis.map_or(Dim::Size(size), |axis| Dim::Axis(self.axes[axis].name.to_string()))
        };
        tensor.tensor.size().into_iter().zip(&tensor.axes).map(dim).collect()
    }
}

/// A list of channels that dimensions of a layer's tensors follow.
pub(crate) struct AxisNode {
    pub(crate) name: Cow<'static, str>,
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

/// Finds, for each layer, the batch norm that alone and directly reads it.
pub(super) fn mark_norms(layers: &mut [LayerNode], uses: &HashMap<usize, usize>) {
    for norm in 0..layers.len() {
        if let Some(behind) =
            layers[norm].details.behind.filter(|behind| uses.get(behind) == Some(&1))
        {
            layers[behind].details.norm = Some(norm);
        }
    }
}
