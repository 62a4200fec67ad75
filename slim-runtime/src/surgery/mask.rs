//! Masking: sets removed channels to zero. The slimmed network must compute what the masked one
//! does.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::swap::Value;
use crate::analysis::{Graph, Masking};
use crate::graph::{AxisRole, Role};
use crate::plan::{AxisPlan, Plan};
use crate::{Error, Result, fault};

/// Which tensors are set to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// All tensors that the masking of the plan names.
    All,
    /// Only the scales of batch norms.
    Scales,
}

/// The tensors that the masking of the plan names, with zeros in the removed channels.
///
/// # Errors
/// [`Error::Torch`], with the tensor.
pub(super) fn values(graph: &Graph, plan: &Plan, what: What) -> Result<Vec<Value>> {
    let _no_grad = tch::no_grad_guard();
    let masked = masked_dims(graph, plan, what).into_iter().map(|((layer, tensor), dims)| {
        let name = graph.tensor_path((layer, tensor));
        let target = graph.layers[layer].tensors[tensor].tensor.shallow_clone();
        let value = fault::point().and_then(|()| masked(&target, &dims));
        Ok(Value { value: value.map_err(Error::torch(&name))?, name, target })
    });
    masked.collect()
}

/// Per tensor, by the place where it is bound first: the dimensions on which it makes or scales
/// removed channels instead of reading them, from all places that share it.
fn masked_dims<'p>(
    graph: &Graph,
    plan: &'p Plan,
    what: What,
) -> BTreeMap<(usize, usize), Vec<(i64, &'p AxisPlan)>> {
    let mut masked: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (index, (node, layer)) in graph.layers.iter().zip(&plan.layers).enumerate() {
        let scale = node.ranked.as_ref().filter(|ranked| ranked.is_scale).map(|ranked| ranked.axis);
        let belongs = |axis: usize| match plan.masking() {
            // γ, and β, which follows the same axis.
            Masking::BatchNorm => scale == Some(axis),
            Masking::Parameters => node.axes[axis].role != AxisRole::Read,
        };
        for (tensor, bound) in node.tensors.iter().enumerate().filter(|&(index, bound)| {
            let is_scale = node
                .ranked
                .as_ref()
                .is_some_and(|ranked| ranked.is_scale && ranked.tensor == index);
            bound.role == Role::Parameter && (what == What::All || is_scale)
        }) {
            let axes = bound
                .axes
                .iter()
                .enumerate()
                .filter_map(|(dim, axis)| Some((dim as i64, (*axis)?)));
            let dims =
                axes.filter(|&(_, axis)| belongs(axis)).map(|(dim, axis)| (dim, &layer.axes[axis]));
            for dim in dims.filter(|(_, axis)| axis.removes()) {
                masked.entry(bound.tied.unwrap_or((index, tensor))).or_default().push(dim);
            }
        }
    }
    masked
}

fn masked(tensor: &Tensor, dims: &[(i64, &AxisPlan)]) -> Result<Tensor, TchError> {
    let mut masked = tensor.f_detach()?;
    for (dim, axis) in dims {
        let mut removed = vec![true; axis.width];
        axis.keep.iter().for_each(|position| removed[position] = false);
        let mut shape = vec![1; tensor.dim()];
        shape[*dim as usize] = -1;
        masked = masked.f_masked_fill(
            &Tensor::f_from_slice(&removed)?.f_reshape(&shape)?.f_to_device(tensor.device())?,
            0.0,
        )?;
    }
    Ok(masked)
}
