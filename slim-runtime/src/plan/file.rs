//! Reading a plan: what is read is checked, so that a `Plan` never points outside itself.

use serde::Deserialize;

use super::{LayerPlan, Plan, Slimming};

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
            if axis.keep.last().is_some_and(|last| last >= axis.width) {
                return Err(format!("axis `{}` keeps position {:?} of {}", axis.name, axis.keep.last(), axis.width));
            }
        }
        for tensor in &self.tensors {
            if tensor.axes.len() != tensor.shape.len() {
                return Err(format!(
                    "`{}` has {} dimensions, but names the axes of {}",
                    tensor.name,
                    tensor.shape.len(),
                    tensor.axes.len()
                ));
            }
            let product = tensor.shape.iter().try_fold(1_i64, |product, &size| product.checked_mul(size).filter(|_| size >= 0));
            if product.is_none() {
                return Err(format!("`{}` cannot have the shape {:?}", tensor.name, tensor.shape));
            }
            for (&size, &axis) in tensor.shape.iter().zip(&tensor.axes) {
                let width = axis.map(|axis| self.axes.get(axis).map_or(-1, |axis| axis.width as i64));
                if width.is_some_and(|width| width != size) {
                    return Err(format!("`{}`: a dimension of {size} does not follow an axis as wide", tensor.name));
                }
            }
        }
        match &self.scored {
            Some(scored) if self.axes.get(scored.axis).is_none_or(|axis| scored.removable > axis.width) => {
                Err("scores an axis that it does not have".to_owned())
            }
            _ => Ok(()),
        }
    }
}
