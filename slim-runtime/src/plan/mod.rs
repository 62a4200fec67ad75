//! Plans: which channels of a network stay, as data that can be printed, saved, compared and
//! applied to any replica.

mod absorbed;
mod cfg;
mod compose;
mod cost;
mod file;
mod latency;
pub(crate) mod outline;
mod report;
mod restrict;
mod slimmed;
mod variables;
mod warning;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::analysis::Masking;
use crate::graph::{KeepList, KeepReason, LayerKind, Role};
use crate::numeric::Uses;
use crate::slimming::{Rule, Scope, Slimming, Target};
pub use absorbed::{Absorbed, Absorption};
pub use cfg::{Cfg, Stage};
pub use compose::Pass;
pub(crate) use restrict::{removed, restricted, without_absorption, without_removals};
pub use slimmed::Slimmed;
pub(crate) use slimmed::StoredPositions;
pub(crate) use variables::Variables;
pub use warning::Warning;

/// Names of the axis that a user means by a layer's channels, by precedence: the channels that the
/// layer makes, that pass through it, that it reads.
pub(crate) const OWN: [&str; 3] = ["out", "channels", "in"];

/// Which channels of a network stay.
///
/// Made by [`Prunable::plan`](crate::Prunable::plan), applied by
/// [`Prunable::apply`](crate::Prunable::apply) to the model or any replica of it. A plan prints as
/// a table, is equal for equal networks and serialises with serde, so it can be an `insta` snapshot
/// in your own tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "file::PlanFile")]
pub struct Plan {
    /// Version of the format: the oldest that has the plan's entries.
    pub(crate) format: u32,
    pub(crate) slimming: Slimming,
    pub(crate) threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<Warning>,
    /// Types whose wiring is declared by their fields and not read from `forward`; empty once a
    /// verification has passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) declared: Vec<String>,
    /// The slimmings before the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) passes: Vec<Pass>,
    pub(crate) layers: Vec<LayerPlan>,
}

/// The plan of one layer: which of its channels stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// Field path: `layer2.0.conv1`.
    pub path: String,
    /// Kind of the layer.
    pub kind: LayerKind,
    /// The lists of channels that its tensors follow: `out` and `in` of a convolution, `channels`
    /// of a batch norm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<AxisPlan>,
    /// Its tensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorPlan>,
    /// How the layer's scores entered the choice; `None` for a layer without scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored: Option<Scored>,
    /// Channels that the layer makes and that stay because nothing ranks them; not given for the
    /// model's outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscored: Option<Unscored>,
}

/// Channels that stay because nothing ranks them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unscored {
    /// Name of the axis that has them.
    pub axis: String,
    /// Number of these channels.
    pub channels: usize,
    /// Why the first of them is held; [`KeepReason::Unscored`] if it has no other reason.
    pub held: KeepReason,
}

/// A list of channels that dimensions of a layer's tensors follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AxisPlan {
    /// `in`, `out`, `channels`, or the name that a hand-written `trace` gave it.
    pub name: String,
    /// Number of channels before slimming.
    pub width: usize,
    /// The positions that stay.
    pub keep: KeepList,
}

/// A tensor of a layer. Equality ignores its name in the variable store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TensorPlan {
    /// Its name in the layer: `weight`, `running_mean`.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<Dim>,
    /// Whether it is trained.
    pub role: Role,
    /// Path of the same tensor at its first use, if an earlier layer of the data flow shares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied: Option<String>,
    /// Its name in the variable store, if known; see [`Plan::with_variables`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
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

/// How a layer's scores entered the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scored {
    /// Name of the axis that is scored.
    pub axis: String,
    /// How many of its channels may be removed.
    pub removable: usize,
    /// Why the other channels are held: the reason for the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<KeepReason>,
    /// The threshold of the layer, if it is not the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The class of isomorphic layers in which the layer competes, by the path of its first layer;
    /// `None` unless the slimming is [isomorphic](Slimming::isomorphic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The number of channels that the target alone would have left, if a bound changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded: Option<Bounded>,
}

/// A layer in which a bound changed the number of channels that the target alone would have left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bounded {
    /// Number of channels that the target alone would have left.
    pub wanted: usize,
    /// The bounds that changed this number.
    pub by: Vec<Rule>,
}

/// A number before and after slimming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// In the original network.
    pub before: i64,
    /// In the slimmed network.
    pub after: i64,
}

impl Plan {
    /// The newest version of the format that this crate writes and reads.
    pub(crate) const FORMAT: u32 = 5;

    /// The oldest version that this crate reads, without declared wirings and without the warnings
    /// of later versions. A plan is of the oldest version that has its entries.
    pub(crate) const OLDEST_FORMAT: u32 = 2;

    /// The lowest version of the format that has the plan's entries.
    fn lowest_format(&self) -> u32 {
        let of_warning = |warning: &Warning| match warning {
            Warning::NoGap { .. } | Warning::WeightDecay { .. } => Self::OLDEST_FORMAT,
            Warning::Sizes { .. } => 3,
            Warning::Overshoot { .. } | Warning::Floor { .. } => 4,
        };
        let of_slimming = |slimming: &Slimming| match (&slimming.target, slimming.scope) {
            (_, Scope::Isomorphic) => Self::FORMAT,
            (target, Scope::Local) if target.is_budget() => Self::FORMAT,
            (Target::Macs { uses, .. }, _) if uses.values().any(|uses| uses.parts() > 1) => 4,
            (Target::Latency { .. }, _) => Self::FORMAT,
            _ => Self::OLDEST_FORMAT,
        };
        let of_wiring = if self.declared.is_empty() { Self::OLDEST_FORMAT } else { 3 };
        let of_warnings = self.warnings.iter().map(of_warning);
        of_warnings.chain(self.slimmings().map(of_slimming)).fold(of_wiring, u32::max)
    }

    /// The plan with these warnings.
    pub(crate) fn warned(self, warnings: Vec<Warning>) -> Self {
        Self { warnings, ..self }.in_lowest_format()
    }

    /// The plan of a wiring that the fields of these types declare, and that is not read from
    /// `forward`.
    pub(crate) fn declared_by(self, declared: Vec<String>) -> Self {
        Self { declared, ..self }.in_lowest_format()
    }

    fn in_lowest_format(self) -> Self {
        Self { format: self.lowest_format(), ..self }
    }

    /// The slimmings of all passes.
    fn slimmings(&self) -> impl Iterator<Item = &Slimming> {
        self.passes.iter().map(|pass| &pass.slimming).chain([&self.slimming])
    }

    /// Types whose wiring is declared by their fields and not read from `forward`, in the order in
    /// which the symbolic pass met them; empty once a [verification](Slimming::verify) has passed.
    pub fn declared(&self) -> &[String] {
        &self.declared
    }

    /// The slimming that was asked for.
    pub fn slimming(&self) -> &Slimming {
        &self.slimming
    }

    /// A channel stays when its score is above this threshold, unless a bound decides otherwise.
    /// `None` when nothing was to be removed, and when every layer or class has its own threshold.
    ///
    /// For a target that is a number of channels or a budget, the threshold is the largest removed
    /// score; of the channels with exactly this score, the first may have stayed.
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

    /// The widths of the slimmed network: an integer for each batch norm, `'M'` for each max-pool
    /// that is a field.
    pub fn cfg(&self) -> Cfg {
        let entries = self.layers.iter().filter(|layer| {
            layer.kind.is_cfg_entry(layer.tensors.iter().map(|tensor| tensor.tied.is_some()))
        });
        let stage = |layer: &LayerPlan| match layer.kind {
            LayerKind::MaxPool => Some(Stage::MaxPool),
            _ => layer.axes.first().map(|axis| Stage::Channels(axis.keep.len() as i64)),
        };
        entries.filter_map(stage).collect()
    }

    /// Number of scored channels: the γ entries of the network's batch norms, or the channels that
    /// another criterion scores.
    pub fn channels(&self) -> Change {
        self.scored().fold(Change { before: 0, after: 0 }, |sum, (axis, _)| {
            sum.plus(axis.width as i64, axis.keep.len() as i64)
        })
    }

    /// Number of trained values: weights, biases, scales and shifts. A shared tensor counts once.
    pub fn parameters(&self) -> Change {
        self.layers
            .iter()
            .map(LayerPlan::parameters)
            .fold(Change { before: 0, after: 0 }, |sum, it| sum.plus(it.before, it.after))
    }

    /// Warnings about this plan.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Which parameters count as zero when a channel is removed. Of all passes of the plan, the
    /// masking that allows the most removals.
    pub(crate) fn masking(&self) -> Masking {
        self.slimmings()
            .map(Slimming::zeroed)
            .find(|masking| *masking == Masking::Parameters)
            .unwrap_or_default()
    }

    /// Multiply-accumulates, given how often each weight is used.
    pub(crate) fn macs(&self, uses: &BTreeMap<String, Uses>) -> Change {
        let tensors = self
            .layers
            .iter()
            .flat_map(|layer| layer.tensors.iter().map(move |tensor| (layer, tensor)));
        // `uses` counts a shared tensor at its first use. The numbers may come from a file, so the
        // arithmetic saturates.
        tensors.filter(|(_, tensor)| tensor.tied.is_none()).fold(
            Change { before: 0, after: 0 },
            |sum, (layer, tensor)| {
                let uses = uses.get(&format!("{}.{}", layer.path, tensor.name));
                let macs = |shape: Vec<i64>| {
                    let elements = u64::try_from(shape.iter().product::<i64>()).unwrap_or(0);
                    let macs = uses.map_or(Some(0), |uses| uses.macs(elements));
                    macs.and_then(|macs| i64::try_from(macs).ok()).unwrap_or(i64::MAX)
                };
                sum.plus(macs(layer.shape_before(tensor)), macs(layer.shape_after(tensor)))
            },
        )
    }

    /// `N` of [`Slimming::ratio`]: how many scored channels may be removed.
    pub fn removable(&self) -> usize {
        self.scored().map(|(_, scored)| scored.removable).sum()
    }

    /// The share of the removable channels that is removed; the [target](Slimming::target) is the
    /// share that was asked for.
    pub fn reached(&self) -> f64 {
        let Change { before, after } = self.channels();
        (before - after) as f64 / self.removable().max(1) as f64
    }

    /// The layers, by path, in which a bound changed the number of channels that the target alone
    /// would have left.
    pub fn bounded(&self) -> impl Iterator<Item = (&str, &Bounded)> {
        self.layers.iter().filter_map(|layer| {
            Some((layer.path.as_str(), layer.scored.as_ref()?.bounded.as_ref()?))
        })
    }

    /// The scored axis of each layer that has one.
    fn scored(&self) -> impl Iterator<Item = (&AxisPlan, &Scored)> {
        self.layers.iter().filter_map(|layer| {
            layer.scored.as_ref().and_then(|scored| Some((layer.axis(&scored.axis)?, scored)))
        })
    }
}

impl AxisPlan {
    /// Whether the axis loses channels.
    pub(crate) fn removes(&self) -> bool {
        self.keep.len() < self.width
    }
}

impl LayerPlan {
    /// An axis by its name.
    pub fn axis(&self, name: &str) -> Option<&AxisPlan> {
        self.axes.iter().find(|axis| axis.name == name)
    }

    /// Number of trained values of this layer. A shared tensor counts at its first use.
    pub fn parameters(&self) -> Change {
        let counted = self
            .tensors
            .iter()
            .filter(|tensor| tensor.role == Role::Parameter && tensor.tied.is_none());
        counted.fold(Change { before: 0, after: 0 }, |sum, tensor| {
            sum.plus(
                self.shape_before(tensor).iter().product(),
                self.shape_after(tensor).iter().product(),
            )
        })
    }

    /// The shape of one of this layer's tensors in the original network.
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
        Change {
            before: self.before.saturating_add(before),
            after: self.after.saturating_add(after),
        }
    }

    /// The removed share, in `[0, 1]`.
    pub fn removed(self) -> f64 {
        (self.before - self.after) as f64 / self.before.max(1) as f64
    }
}
