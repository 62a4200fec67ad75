//! What a slimmed network takes, from the plan alone.

use crate::analysis::cost::{Cost, LayerCost, TensorCost};
use crate::plan::outline::{DimOutline, Outline, TensorOutline};
use crate::plan::{LayerPlan, Plan, outline};
use crate::{Error, Result};

impl Cost {
    /// What the network will take once `plan` is carried out: what
    /// [`Prunable::cost`](crate::Prunable::cost) would say of it then.
    ///
    /// Tensors become smaller, and the number of positions at which they are used stays. (Not so
    /// where `forward` transposes, and what is a position for one layer is a channel of another.)
    ///
    /// # Errors
    /// [`Error::PlanMismatch`], with the first difference, when the plan is another network's.
    pub fn after(&self, plan: &Plan) -> Result<Cost> {
        let planned: Vec<_> = plan.layers().iter().map(planned_outline).collect();
        let measured: Vec<_> = self.layers().iter().map(LayerCost::outline).collect();
        if let Some(difference) =
            outline::difference(&measured, &planned, ["the model", "the plan"])
        {
            return Err(Error::PlanMismatch { difference });
        }
        let layers = self
            .layers()
            .iter()
            .zip(plan.layers())
            .map(|(layer, planned)| layer.after(planned))
            .collect();
        Ok(self.with_layers(layers))
    }
}

impl LayerCost {
    fn outline(&self) -> Outline<'_> {
        let tensors = self
            .tensors
            .iter()
            .map(|tensor| of_sizes(&tensor.name, tensor.shape.clone(), tensor.tied.clone()));
        Outline { path: &self.path, kind: &self.kind, axes: Vec::new(), tensors: tensors.collect() }
    }

    fn after(&self, plan: &LayerPlan) -> Self {
        let tensors = self.tensors.iter().zip(&plan.tensors);
        let tensors = tensors
            .map(|(tensor, planned)| TensorCost {
                shape: plan.shape_after(planned),
                ..tensor.clone()
            })
            .collect();
        LayerCost::new(self.path.clone(), self.kind.clone(), tensors, self.uncounted.clone())
    }
}

/// Of a cost no more than sizes is known.
fn planned_outline(layer: &LayerPlan) -> Outline<'_> {
    let tensors = layer
        .tensors
        .iter()
        .map(|tensor| of_sizes(&tensor.name, layer.shape_before(tensor), tensor.tied.clone()));
    Outline { path: &layer.path, kind: &layer.kind, axes: Vec::new(), tensors: tensors.collect() }
}

fn of_sizes(name: &str, shape: Vec<i64>, tied: Option<String>) -> TensorOutline<'_> {
    TensorOutline {
        name,
        dims: shape.iter().map(|&size| DimOutline::Size(size)).collect(),
        shape,
        tied,
    }
}
