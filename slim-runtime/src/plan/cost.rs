//! The cost of a slimmed network, computed from the plan.

use crate::analysis::cost::{Cost, LayerCost, TensorCost};
use crate::error::PlanError;
use crate::plan::outline::{DimOutline, Outline, TensorOutline};
use crate::plan::{LayerPlan, Plan, outline};
use crate::{Error, Result};

impl Cost {
    /// The cost of the network after `plan` is applied, as
    /// [`Prunable::cost`](crate::Prunable::cost) would count it then.
    ///
    /// Tensors shrink, and the number of positions at which they are used stays. (This does not
    /// hold if `forward` transposes, so that one layer's positions are another layer's channels.)
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch), with the first difference, when
    /// the plan was made for another network.
    pub fn after(&self, plan: &Plan) -> Result<Cost> {
        let planned: Vec<_> = plan.layers().iter().map(planned_outline).collect();
        let measured: Vec<_> = self.layers().iter().map(LayerCost::outline).collect();
        if let Some(difference) =
            outline::difference(&measured, &planned, ["the model", "the plan"])
        {
            return Err(Error::Plan(PlanError::Mismatch { difference }));
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

/// The outline of a planned layer with sizes in place of axes, since a [`Cost`] knows no axes.
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
