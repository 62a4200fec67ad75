//! The masked network: what the slimmed one must compute.

use tch::{TchError, Tensor};

use super::{matching, swap::Swaps};
use crate::Result;
use crate::criterion::Masking;
use crate::plan::{AxisPlan, Plan, Role};
use crate::tracer::{AxisRole, Graph, LayerNode, TensorNode};

/// Sets what the plan's masking names to zero in the removed channels.
pub(crate) fn apply(graph: &Graph, plan: &Plan) -> Result<()> {
    matching::check(graph, plan)?;
    let _no_grad = tch::no_grad_guard();
    let mut swaps = Swaps::default();
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        for bound in node.tensors.iter().filter(|bound| bound.role == Role::Parameter) {
            let dims = masked_dims(plan.masking(), node, bound);
            let dims: Vec<_> = dims.map(|(dim, axis)| (dim, &layer.axes[axis])).filter(|(_, axis)| axis.keep.len() < axis.width).collect();
            if !dims.is_empty() {
                swaps.add(&format!("{}.{}", node.path, bound.name), &bound.tensor, |tensor| masked(tensor, &dims))?;
            }
        }
    }
    swaps.commit().inspect_err(|_| swaps.roll_back())
}

/// The dimensions of a parameter along which it belongs to the channels of an axis, as against reading them.
fn masked_dims(masking: Masking, node: &LayerNode, bound: &TensorNode) -> impl Iterator<Item = (i64, usize)> {
    let scale = node.ranked.as_ref().filter(|ranked| ranked.is_scale).map(|ranked| ranked.axis);
    let axes = bound.axes.iter().enumerate().filter_map(|(dim, axis)| Some((dim as i64, (*axis)?)));
    axes.filter(move |&(_, axis)| match masking {
        // γ, and β beside it.
        Masking::BatchNorm => scale == Some(axis),
        Masking::Parameters => node.axes[axis].role != AxisRole::Read,
    })
}

fn masked(tensor: &Tensor, dims: &[(i64, &AxisPlan)]) -> Result<Tensor, TchError> {
    let mut masked = tensor.f_detach()?;
    for (dim, axis) in dims {
        let mut removed = vec![true; axis.width];
        axis.keep.iter().for_each(|position| removed[position] = false);
        let mut shape = vec![1; tensor.dim()];
        shape[*dim as usize] = -1;
        masked = masked.f_masked_fill(&Tensor::f_from_slice(&removed)?.f_reshape(&shape)?.f_to_device(tensor.device())?, 0.0)?;
    }
    Ok(masked)
}
