//! Reading a plan: what is read is checked, so that a `Plan` never points outside itself.

use serde::Deserialize;

use super::{AxisPlan, Dim, LayerPlan, Plan, Slimming};

#[derive(Deserialize)]
pub(super) struct PlanFile {
    format: u32,
    slimming: Slimming,
    threshold: Option<f64>,
    layers: Vec<LayerPlan>,
}

impl TryFrom<PlanFile> for Plan {
    type Error = String;

    fn try_from(file: PlanFile) -> Result<Self, String> {
        let PlanFile { format, slimming, threshold, layers } = file;
        if format != Plan::FORMAT {
            return Err(format!("this is a plan of format {format}, but only format {} can be read", Plan::FORMAT));
        }
        slimming.check().map_err(|error| error.to_string())?;
        layers.iter().try_for_each(|layer| layer.check().map_err(|reason| format!("layer `{}`: {reason}", layer.path)))?;
        Ok(Plan { format, slimming, threshold, layers })
    }
}

impl LayerPlan {
    fn check(&self) -> Result<(), String> {
        for axis in &self.axes {
            if let Some(last) = axis.keep.last().filter(|&last| last >= axis.width) {
                return Err(format!("axis `{}` keeps position {last} of {}", axis.name, axis.width));
            }
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
                    Dim::Size(size) if *size < 0 => return Err(format!("`{}` has a dimension of {size}", tensor.name)),
                    Dim::Size(_) => {}
                }
            }
            let elements = self.shape_before(tensor).into_iter().try_fold(1_i64, i64::checked_mul);
            if elements.is_none() {
                return Err(format!("`{}` has more elements than can be counted", tensor.name));
            }
        }
        match &self.scored {
            Some(scored) if scored.removable > self.known(&scored.axis)?.width => Err("more channels are removable than it has".to_owned()),
            _ => Ok(()),
        }
    }

    fn known(&self, axis: &str) -> Result<&AxisPlan, String> {
        self.axis(axis).ok_or_else(|| format!("it has no axis `{axis}`"))
    }
}
