//! What a trace leaves behind: layers, each a list of bindings, and the classes of their channels.

use std::borrow::Cow;
use std::rc::Rc;

use tch::Tensor;

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
        let ranked = self.layers.iter().filter_map(|layer| layer.ranked.as_ref().map(|ranked| (layer, ranked)));
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
        let dim = |(size, axis): (i64, &Option<usize>)| axis.map_or(Dim::Size(size), |axis| Dim::Axis(self.axes[axis].name.to_string()));
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
