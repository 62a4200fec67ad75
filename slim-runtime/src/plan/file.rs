//! Plans as JSON. Reading checks a plan, so that every axis and position that it names exists.

use serde::Deserialize;

use super::{AxisPlan, Dim, LayerPlan, Pass, Plan, Warning};
use crate::error::PlanError;
use crate::slimming::Slimming;
use crate::{Error, Result};

/// Limits on a plan that is read, so that sums over tensors and layers cannot overflow.
const MOST_CHANNELS: usize = 1 << 32;
const MOST_ELEMENTS: i64 = 1 << 42;
const MOST_TENSORS: usize = 1 << 20;

impl Plan {
    #[doc = concat!(
        "The JSON Schema (draft 2020-12) of what [`to_json`](Self::to_json) writes, for readers in other languages:\n\n```json\n",
        include_str!("../../docs/plan.schema.json"),
        "```"
    )]
    pub const JSON_SCHEMA: &str = include_str!("../../docs/plan.schema.json");

    /// The plan as indented JSON, described by [`JSON_SCHEMA`](Self::JSON_SCHEMA). Plans also
    /// serialise in other formats of serde.
    ///
    /// # Errors
    /// None that is known: every value of a plan can be represented in JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::Plan(PlanError::Invalid { reason: error.to_string() }))
    }

    /// Parses the output of [`to_json`](Self::to_json). The plan is equal, to the last bit of its
    /// threshold.
    ///
    /// # Errors
    /// [`PlanError::Invalid`](crate::error::PlanError::Invalid) when the text is not a plan, or is
    /// an inconsistent one.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::Plan(PlanError::Invalid { reason: error.to_string() }))
    }
}

#[derive(Deserialize)]
pub(super) struct PlanFile {
    format: u32,
    slimming: Slimming,
    threshold: Option<f64>,
    #[serde(default)]
    warnings: Vec<Warning>,
    #[serde(default)]
    declared: Vec<String>,
    #[serde(default)]
    passes: Vec<Pass>,
    layers: Vec<LayerPlan>,
}

impl TryFrom<PlanFile> for Plan {
    type Error = String;

    fn try_from(file: PlanFile) -> Result<Self, String> {
        let PlanFile { format, slimming, threshold, warnings, declared, passes, layers } = file;
        if !(Plan::OLDEST_FORMAT..=Plan::FORMAT).contains(&format) {
            return Err(format!(
                "this is a plan of format {format}, but only formats {} to {} can be read",
                Plan::OLDEST_FORMAT,
                Plan::FORMAT
            ));
        }
        let check = |slimming: &Slimming| slimming.check().map_err(|error| error.to_string());
        passes.iter().map(|pass| &pass.slimming).chain([&slimming]).try_for_each(check)?;
        layers.iter().try_for_each(|layer| {
            layer.check().map_err(|reason| format!("layer `{}`: {reason}", layer.path))
        })?;
        if layers.iter().map(|layer| layer.tensors.len() + layer.axes.len()).sum::<usize>()
            > MOST_TENSORS
        {
            return Err("this network has more layers than any".to_owned());
        }
        Ok(Plan { format, slimming, threshold, warnings, declared, passes, layers })
    }
}

impl LayerPlan {
    pub(super) fn check(&self) -> Result<(), String> {
        for axis in &self.axes {
            if let Some(last) = axis.keep.last().filter(|&last| last >= axis.width) {
                return Err(format!(
                    "axis `{}` keeps position {last} of {}",
                    axis.name, axis.width
                ));
            }
        }
        if let Some(axis) = self.axes.iter().find(|axis| axis.width > MOST_CHANNELS) {
            return Err(format!("axis `{}` has more channels than any network", axis.name));
        }
        for (i, axis) in self.axes.iter().enumerate() {
            if self.axes[..i].iter().any(|other| other.name == axis.name) {
                return Err(format!("it has the axis `{}` twice", axis.name));
            }
        }
        for tensor in &self.tensors {
            for dim in &tensor.dims {
                match dim {
                    Dim::Axis(name) => drop(self.known(name)?),
                    Dim::Size(size) if *size < 0 => {
                        return Err(format!("`{}` has a dimension of {size}", tensor.name));
                    }
                    Dim::Size(_) => {}
                }
            }
            let elements = self.shape_before(tensor).into_iter().try_fold(1_i64, i64::checked_mul);
            if elements.is_none_or(|elements| elements > MOST_ELEMENTS) {
                return Err(format!("`{}` has more elements than any tensor", tensor.name));
            }
        }
        let Some(scored) = &self.scored else { return Ok(()) };
        let axis = self.known(&scored.axis)?;
        if scored.removable > axis.width || axis.width - axis.keep.len() > scored.removable {
            return Err(format!(
                "{} of {} channels are removable, which cannot be",
                scored.removable, axis.width
            ));
        }
        Ok(())
    }

    fn known(&self, axis: &str) -> Result<&AxisPlan, String> {
        self.axis(axis).ok_or_else(|| format!("it has no axis `{axis}`"))
    }
}
