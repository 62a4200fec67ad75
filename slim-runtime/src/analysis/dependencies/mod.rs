//! Which layers make, scale and read which channels, and which channels stay or go together.
//!
//! [`Prunable::dependencies`](crate::Prunable::dependencies) finds them. Print them as a table of
//! groups, or draw them: [`Dependencies::to_dot`] is text for Graphviz,
//! [`Dependencies::to_mermaid`] for Mermaid, which GitHub draws.

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
/// Channels that stay or go as one are a *unit*: those at one position of a sum, a channel with its
/// batch norm and its readers. Units of the same layers are a [`Group`]. What
/// [`Slimming::keep`](crate::Slimming::keep) asks for is not in it, and what is held since nothing
/// ranks it is so for batch norms: by weights, more may go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Dependencies {
    /// The layers, in the order of the data flow; one that is applied twice is there twice. A layer
    /// that leaves channels alone, such as a pool, is not.
    pub layers: Vec<Layer>,
    /// Who gives whom channels, in the order of the layers that are given some.
    pub edges: Vec<Edge>,
    /// The groups, in the order of the data flow. Every channel of every layer is in one of them.
    pub groups: Vec<Group>,
}

/// A layer, by its lists of channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Layer {
    /// Field path: `layer2.0.conv1`.
    pub path: String,
    /// What the layer does.
    pub kind: LayerKind,
    /// Where `forward` applies it: file, line and column; `None` where the wiring is not read from
    /// `forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Its lists of channels: what it reads and makes, or what passes through it.
    pub axes: Vec<Axis>,
}

/// A list of channels of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Axis {
    /// `in`, `out`, `channels`, or the name that a hand-written `trace` gave it.
    pub name: String,
    /// How many channels it has. Of a grouped convolution's `in`, those of one group.
    pub width: usize,
    /// By position.
    #[serde(skip)]
    units: Vec<usize>,
    /// Whether it is what the layer gives, and not what it is given.
    #[serde(skip)]
    is_given_on: bool,
}

/// One layer gives channels to another, with no layer in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Edge {
    /// Who gives them, as a position in [`Dependencies::layers`].
    pub from: usize,
    /// Who is given them, as a position in [`Dependencies::layers`].
    pub to: usize,
    /// How many channels.
    pub channels: usize,
}

/// Channels of the same layers: each of its units stays or goes by itself, in all of these layers
/// at once, and in no other.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// The number that texts and pictures give it, from 1.
    pub number: usize,
    /// How many units it has: as many as each layer has channels of it, unless the layer has
    /// several that are one.
    pub channels: usize,
    /// The layers, and what they do with the channels; in the order of the data flow.
    pub members: Vec<Member>,
    /// Why none of it may go, if none may.
    pub held: Option<KeepReason>,
}

/// Channels of a group, as one layer has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// The layer, as a position in [`Dependencies::layers`].
    pub layer: usize,
    /// Name of the layer's list that has them.
    pub axis: String,
    /// What it does with them.
    pub role: ChannelRole,
    /// Where in the list they are.
    pub positions: KeepList,
}

/// What a layer does with channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelRole {
    /// Its weights make them. Those of a depthwise convolution are the ones that it reads, so it
    /// stays or goes with who makes these.
    Makes,
    /// It scales them by a γ, which ranks them: a batch norm.
    Scales,
    /// It has values for each of them, and treats it by itself.
    Follows,
    /// It sends them on, in stored order or number: a split, a shuffle, a selection.
    Moves,
    /// It mixes them into others.
    Reads,
}

impl Group {
    /// Whether several layers make the same channels, and so lose the same ones: those of a
    /// residual stream, or of a depthwise convolution and the one in front.
    pub fn is_coupled(&self) -> bool {
        self.makers().nth(1).is_some()
    }

    /// The layers that make its channels, as positions in [`Dependencies::layers`].
    pub fn makers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Makes)
    }

    /// The layers whose γ rank its channels.
    pub fn scalers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Scales)
    }

    /// The layers that read its channels.
    pub fn readers(&self) -> impl Iterator<Item = usize> {
        self.layers(|role| role == ChannelRole::Reads)
    }

    /// The layers that do one of these things with its channels, each once.
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
    /// The unit of each channel, by position. Channels of one unit, here and in other layers, stay
    /// or go as one.
    pub fn units(&self) -> &[usize] {
        &self.units
    }
}

impl Layer {
    /// A list of channels by its name.
    pub fn axis(&self, name: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.name == name)
    }

    /// `3 → 32`, or `32` where they pass through.
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
    /// The coupled group that has most of what a layer makes, scales or passes on, and so the
    /// colour that it is drawn in.
    pub fn coupled_group_of(&self, layer: usize) -> Option<&Group> {
        let channels = |group: &Group| -> usize {
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
