//! Which layers make, scale and read which channels, and which channels stay or go together.
//!
//! Returned by [`Prunable::dependencies`](crate::Prunable::dependencies). They print as a table of
//! groups. To draw them, [`Dependencies::to_dot`] writes text for Graphviz, and
//! [`Dependencies::to_mermaid`] text for Mermaid, which GitHub draws.

mod build;
mod dot;
mod joints;
mod mermaid;
mod palette;
mod table;

use serde::Serialize;

use crate::{KeepList, KeepReason, LayerKind};
pub(crate) use build::of;

/// How channels of a network depend on each other.
///
/// Channels that stay or go together form a *channel group*: the channels at one position of a sum,
/// or a channel with its batch norm and the layers that read it. Channel groups of the same layers
/// form a [`LayerGroup`]. [`Slimming::keep`](crate::Slimming::keep) is not considered. Channels
/// that no batch norm ranks are held here; a criterion that ranks by weights may remove more
/// channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Dependencies {
    /// The layers, in the order of the data flow. A layer that is applied twice is listed twice.
    /// Layers that leave channels alone, such as pools, are not listed.
    pub layers: Vec<Layer>,
    /// Which layer passes channels to which, in the order of the receiving layers.
    pub edges: Vec<Edge>,
    /// The groups, in the order of the data flow. Every channel of every layer is in one of them.
    pub groups: Vec<LayerGroup>,
}

/// A layer and its lists of channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Layer {
    /// Field path: `layer2.0.conv1`.
    pub path: String,
    /// What the layer does.
    pub kind: LayerKind,
    /// File, line and column where `forward` applies the layer; `None` where the wiring is not read
    /// from `forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The layer's lists of channels: those that it reads and makes, or those that pass through it.
    pub axes: Vec<Axis>,
}

/// A list of channels of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Axis {
    /// `in`, `out`, `channels`, or the name that a hand-written `trace` gave it.
    pub name: String,
    /// Number of channels. For a grouped convolution's `in`, the channels of one group.
    pub width: usize,
    /// Channel group of each channel, by position.
    #[serde(skip)]
    channel_groups: Vec<usize>,
    /// Whether the list is an output of the layer, and not its input.
    #[serde(skip)]
    is_given_on: bool,
}

/// Channels that pass from one layer to another, with no layer in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Edge {
    /// The layer that passes them on, as a position in [`Dependencies::layers`].
    pub from: usize,
    /// The layer that receives them, as a position in [`Dependencies::layers`].
    pub to: usize,
    /// Number of channels.
    pub channels: usize,
}

/// Channel groups that are in the same lists of the same layers. Each channel group stays or goes
/// by itself, in all of these layers at once and in no other.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerGroup {
    /// The group's number in tables and drawings, from 1.
    pub number: usize,
    /// Number of channel groups. A layer has as many of the group's channels, or more where several
    /// of its channels are one channel group.
    pub channels: usize,
    /// The layers and what they do with the channels, in the order of the data flow.
    pub members: Vec<Member>,
    /// Why the channels are held; `None` if they may be removed.
    pub held: Option<KeepReason>,
}

/// The channels of a group in one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// The layer, as a position in [`Dependencies::layers`].
    pub layer: usize,
    /// Name of the layer's list that has the channels.
    pub axis: String,
    /// What the layer does with the channels.
    pub role: ChannelRole,
    /// Positions of the channels in the list.
    pub positions: KeepList,
}

/// What a layer does with channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelRole {
    /// The layer's weights make the channels. The channels of a depthwise convolution are those
    /// that it reads, so they stay or go together with those of the layer that makes its input.
    Makes,
    /// The layer scales the channels by γ, which ranks them: a batch norm.
    Scales,
    /// The layer has values for each channel, and treats each channel by itself.
    Follows,
    /// The layer passes channels on, in stored order or number: a split, a shuffle, a selection.
    Moves,
    /// The layer mixes the channels into others.
    Reads,
}

impl LayerGroup {
    /// Whether several layers make the same channels, and so lose the same ones: the layers of a
    /// residual stream, or a depthwise convolution and the layer before it.
    pub fn is_coupled(&self) -> bool {
        self.producers().nth(1).is_some()
    }

    /// The layers that make the group's channels, as positions in [`Dependencies::layers`].
    pub fn producers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Makes)
    }

    /// The layers whose γ ranks the group's channels.
    pub fn scalers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Scales)
    }

    /// The layers that read the group's channels.
    pub fn consumers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Reads)
    }

    /// The layers that have one of these roles for the group's channels, each once.
    fn layers(&self, is_one: impl Fn(ChannelRole) -> bool) -> impl Iterator<Item = usize> {
        let mut last = None;
        let layers = self
            .members
            .iter()
            .filter(move |member| is_one(member.role))
            .map(|member| member.layer);
        layers.filter(move |&layer| last.replace(layer) != Some(layer))
    }
}

impl Axis {
    /// The channel group of each channel, by position. Channels of one channel group, in this and
    /// in other layers, stay or go together.
    pub fn channel_groups(&self) -> &[usize] {
        &self.channel_groups
    }
}

impl Layer {
    /// The list of channels of this name.
    pub fn axis(&self, name: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.name == name)
    }

    /// Input and output widths, `3 → 32`; one width, `32`, where channels pass through.
    pub fn widths(&self) -> String {
        let width = |given_on: bool| {
            let axes = self.axes.iter().filter(|axis| axis.is_given_on == given_on);
            axes.map(|axis| axis.width.to_string()).collect::<Vec<_>>().join(" + ")
        };
        match (width(false), width(true)) {
            (given, given_on) if given.is_empty() => given_on,
            (given, given_on) if given_on.is_empty() => given,
            (given, given_on) => format!("{given} → {given_on}"),
        }
    }
}

impl Dependencies {
    /// The coupled group with the largest number of the channels that a layer makes, scales or
    /// passes on. It gives the layer its colour in drawings.
    pub fn coupled_group_of(&self, layer: usize) -> Option<&LayerGroup> {
        let channels = |group: &LayerGroup| -> usize {
            let own = group
                .members
                .iter()
                .filter(|member| member.layer == layer && member.role != ChannelRole::Reads);
            own.map(|member| member.positions.len()).sum()
        };
        let coupled = self.groups.iter().filter(|group| group.is_coupled() && channels(group) > 0);
        coupled.rev().max_by_key(|group| channels(group))
    }
}
