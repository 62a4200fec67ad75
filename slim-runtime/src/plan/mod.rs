//! What stays of a network, as data: printed, saved, compared, applied to any replica.

mod file;
mod keep;
mod kind;
mod report;
mod slimming;

use serde::{Deserialize, Serialize};

use crate::cfg::{Cfg, Stage};
use crate::{Absorbed, Prunable, Result};
pub use keep::KeepList;
pub use kind::{Hold, LayerKind, Role};
pub use slimming::{Coupling, Slimming};

/// Which channels of a network stay.
///
/// Made by [`Prunable::plan`](crate::Prunable::plan), carried out by [`Prunable::apply`](crate::Prunable::apply) on the model or any replica of it.
/// It prints as a table, is equal for equal networks, and serialises with serde; fit for `insta` snapshots in your own tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "file::PlanFile")]
pub struct Plan {
    /// Version of this format: 1.
    pub(crate) format: u32,
    pub(crate) slimming: Slimming,
    pub(crate) threshold: Option<f64>,
    pub(crate) layers: Vec<LayerPlan>,
}

/// What stays of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// Field path: `layer2.0.conv1`.
    pub path: String,
    /// What the layer does.
    pub kind: LayerKind,
    /// The lists of channels that its tensors follow: `out` and `in` of a conv, `channels` of a batch norm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<AxisPlan>,
    /// Its tensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorPlan>,
    /// How its scores took part in the choice; `None` for a layer that scores nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored: Option<Scored>,
    /// Channels that it makes and that stay, since no batch norm ranks them; not said of the model's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscored: Option<Unscored>,
}

/// Channels that stay because no batch norm ranks them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unscored {
    /// Name of the axis that they are of.
    pub axis: String,
    /// How many they are.
    pub channels: usize,
    /// Who would miss the first of them, if it is known.
    pub held: Hold,
}

/// A list of channels that dimensions of a layer's tensors follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AxisPlan {
    /// `in`, `out`, `channels`, or the name that a hand-written `trace` gave it.
    pub name: String,
    /// Its width before.
    pub width: usize,
    /// The positions that stay.
    pub keep: KeepList,
}

/// A tensor of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TensorPlan {
    /// Its name in the layer: `weight`, `running_mean`.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<Dim>,
    /// Whether it is trained.
    pub role: Role,
    /// Path of the tensor that this is, where it was met before in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied: Option<String>,
}

/// A dimension of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Follows the axis of this name in [`LayerPlan::axes`].
    Axis(String),
    /// Follows no channels, and has this size: a side of a kernel.
    Size(i64),
}

/// How a layer's scores took part in the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scored {
    /// Name of the axis that is scored.
    pub axis: String,
    /// How many of its channels may be removed.
    pub removable: usize,
    /// Why the others may not: the reason of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
    /// Whether the layer would have been left with fewer channels than it needs, and keeps some for that alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub floor: bool,
}

/// A number before and after slimming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// In the network as it was.
    pub before: i64,
    /// In the slimmed network.
    pub after: i64,
}

/// What [`Prunable::slim`](crate::Prunable::slim) did: the plan that was carried out. Prints as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Slimmed {
    pub(crate) plan: Plan,
    pub(crate) absorbed: Vec<Absorbed>,
}

impl Slimmed {
    /// The plan that was carried out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What became of what removed channels sent on, by the layer that read them; empty if [absorption](Slimming::absorb) was not asked for.
    pub fn absorbed(&self) -> &[Absorbed] {
        &self.absorbed
    }

    /// The widths of the network now.
    pub fn cfg(&self) -> Cfg {
        self.plan.cfg()
    }
}

impl Plan {
    /// The version of plans that this crate writes, and reads.
    pub(crate) const FORMAT: u32 = 1;

    /// What was asked for.
    pub fn slimming(&self) -> &Slimming {
        &self.slimming
    }

    /// A channel stays when its score is above this. `None` when nothing was to be removed.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// The layers, in the order of the data flow.
    pub fn layers(&self) -> &[LayerPlan] {
        &self.layers
    }

    /// A layer by its field path.
    pub fn layer(&self, path: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// A model that is as wide as the one that was planned for, narrowed: to build a slimmed network again, and then load its weights.
    ///
    /// # Errors
    /// Those of [`Prunable::apply`](crate::Prunable::apply).
    pub fn narrowed<M: Prunable>(&self, mut model: M) -> Result<M> {
        model.apply(self)?;
        Ok(model)
    }

    /// The widths of the slimmed network: an integer for each batch norm, `'M'` for each max-pool that is a field.
    pub fn cfg(&self) -> Cfg {
        let stage = |layer: &LayerPlan| match layer.kind {
            // One that is applied twice is one entry.
            LayerKind::BatchNorm if layer.tensors.iter().all(|tensor| tensor.tied.is_some()) => None,
            LayerKind::BatchNorm => layer.axes.first().map(|axis| Stage::Channels(axis.keep.len() as i64)),
            LayerKind::MaxPool => Some(Stage::MaxPool),
            _ => None,
        };
        self.layers.iter().filter_map(stage).collect()
    }

    /// Scored channels: the γ entries of the network's batch norms.
    pub fn channels(&self) -> Change {
        self.scored().fold(Change { before: 0, after: 0 }, |sum, (axis, _)| sum.plus(axis.width as i64, axis.keep.len() as i64))
    }

    /// Trained values: weights, biases, scales and shifts. A shared tensor counts once.
    pub fn parameters(&self) -> Change {
        self.layers.iter().map(LayerPlan::parameters).fold(Change { before: 0, after: 0 }, |sum, it| sum.plus(it.before, it.after))
    }

    /// `N` of [`Slimming::ratio`]: how many scored channels may be removed.
    pub fn removable(&self) -> usize {
        self.scored().map(|(_, scored)| scored.removable).sum()
    }

    /// The share of the removable channels that is removed; [`Slimming::ratio`] is what was asked for.
    pub fn reached(&self) -> f64 {
        let Change { before, after } = self.channels();
        (before - after) as f64 / self.removable().max(1) as f64
    }

    /// Paths of the layers that would have been left with fewer channels than they need.
    pub fn floored(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter(|layer| layer.scored.as_ref().is_some_and(|scored| scored.floor)).map(|layer| layer.path.as_str())
    }

    /// Each scored axis.
    fn scored(&self) -> impl Iterator<Item = (&AxisPlan, &Scored)> {
        self.layers.iter().filter_map(|layer| layer.scored.as_ref().and_then(|scored| Some((layer.axis(&scored.axis)?, scored))))
    }
}

impl LayerPlan {
    /// An axis by its name.
    pub fn axis(&self, name: &str) -> Option<&AxisPlan> {
        self.axes.iter().find(|axis| axis.name == name)
    }

    /// Trained values of this layer. A shared tensor counts where it is met first.
    pub fn parameters(&self) -> Change {
        let counted = self.tensors.iter().filter(|tensor| tensor.role == Role::Parameter && tensor.tied.is_none());
        counted.fold(Change { before: 0, after: 0 }, |sum, tensor| {
            sum.plus(self.shape_before(tensor).iter().product(), self.shape_after(tensor).iter().product())
        })
    }

    /// The shape of one of this layer's tensors in the network as it was.
    pub fn shape_before(&self, tensor: &TensorPlan) -> Vec<i64> {
        self.shape(tensor, |axis| axis.width)
    }

    /// The shape of one of this layer's tensors in the slimmed network.
    pub fn shape_after(&self, tensor: &TensorPlan) -> Vec<i64> {
        self.shape(tensor, |axis| axis.keep.len())
    }

    fn shape(&self, tensor: &TensorPlan, width: impl Fn(&AxisPlan) -> usize) -> Vec<i64> {
        let size = |dim: &Dim| match dim {
            Dim::Axis(name) => self.axis(name).map_or(0, |axis| width(axis) as i64),
            Dim::Size(size) => *size,
        };
        tensor.dims.iter().map(size).collect()
    }
}

impl Change {
    fn plus(self, before: i64, after: i64) -> Self {
        Change { before: self.before + before, after: self.after + after }
    }

    /// The share that is gone, in `[0, 1]`.
    pub fn removed(self) -> f64 {
        (self.before - self.after) as f64 / self.before.max(1) as f64
    }
}
