//! What a slimmed network takes, from the plan alone.

use super::{Cost, LayerCost, TensorCost};
use crate::plan::{LayerPlan, Plan};
use crate::{Error, Result};

impl Cost {
    /// What the network will take once `plan` is carried out: what [`Prunable::cost`](crate::Prunable::cost) would say of it then.
    ///
    /// Tensors become smaller, and the number of positions at which they are used stays. (Not so where `forward` transposes, and what is a position for one layer is
    /// a channel of another.)
    ///
    /// # Errors
    /// [`Error::PlanMismatch`], with the first difference, when the plan is another network's.
    pub fn after(&self, plan: &Plan) -> Result<Cost> {
        let mut pairs = self.layers.iter().zip(plan.layers());
        if let Some(difference) = pairs.find_map(|(layer, planned)| difference(layer, planned)) {
            return Err(Error::PlanMismatch { difference });
        }
        let (model, planned) = (self.layers.len(), plan.layers().len());
        if model != planned {
            return Err(Error::PlanMismatch { difference: format!("the model has {model} layers, the plan {planned}") });
        }
        let layers = self.layers.iter().zip(plan.layers()).map(|(layer, planned)| layer.after(planned)).collect();
        Ok(Cost { layers, outside: self.outside.clone() })
    }
}

impl LayerCost {
    fn after(&self, plan: &LayerPlan) -> Self {
        let tensors = self.tensors.iter().zip(&plan.tensors);
        let tensors = tensors.map(|(tensor, planned)| TensorCost { shape: plan.shape_after(planned), ..tensor.clone() }).collect();
        LayerCost::new(self.path.clone(), self.kind.clone(), tensors, self.uncounted.clone())
    }
}

fn difference(layer: &LayerCost, planned: &LayerPlan) -> Option<String> {
    let path = &layer.path;
    if (path, &layer.kind) != (&planned.path, &planned.kind) {
        return Some(format!("the model has `{path}` ({}) where the plan has `{}` ({})", layer.kind, planned.path, planned.kind));
    }
    let named = |names: Vec<&str>| names.join(", ");
    let model = named(layer.tensors.iter().map(|tensor| tensor.name.as_str()).collect());
    let plan = named(planned.tensors.iter().map(|tensor| tensor.name.as_str()).collect());
    if model != plan {
        return Some(format!("`{path}` has the tensors {model} in the model, {plan} in the plan"));
    }
    layer.tensors.iter().zip(&planned.tensors).find_map(|(tensor, in_plan)| {
        let (name, model, plan) = (&tensor.name, &tensor.shape, planned.shape_before(in_plan));
        if *model != plan {
            return Some(format!("`{path}.{name}` has shape {model:?} in the model, {plan:?} in the plan"));
        }
        ((tensor.role, &tensor.tied) != (in_plan.role, &in_plan.tied))
            .then(|| format!("`{path}.{name}` is shared, or trained, in one of them and not in the other"))
    })
}
