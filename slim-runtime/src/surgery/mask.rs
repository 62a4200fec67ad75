//! The masked network: what the slimmed one must compute.

use tch::Tensor;

use super::{matching, swap::Swaps};
use crate::Result;
use crate::plan::{Plan, Role};
use crate::tracer::Graph;

/// Sets every trained value of the removed channels to zero, in the layers that score: γ and β of a batch norm.
pub(crate) fn apply(graph: &Graph, plan: &Plan) -> Result<()> {
    matching::check(graph, plan)?;
    let _no_grad = tch::no_grad_guard();
    let mut swaps = Swaps::default();
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        let Some(axis) = node.scale.as_ref().map(|scale| scale.axis) else { continue };
        let planned = &layer.axes[axis];
        let mut removed = vec![true; planned.width];
        planned.keep.iter().for_each(|position| removed[position] = false);
        for bound in node.tensors.iter().filter(|bound| bound.role == Role::Parameter && bound.axes == [Some(axis)]) {
            let masked =
                |tensor: &Tensor| tensor.f_detach()?.f_masked_fill(&Tensor::f_from_slice(&removed)?.f_to_device(tensor.device())?, 0.0);
            swaps.add(&format!("{}.{}", node.path, bound.name), &bound.tensor, masked)?;
        }
    }
    swaps.commit().inspect_err(|_| swaps.roll_back())
}
