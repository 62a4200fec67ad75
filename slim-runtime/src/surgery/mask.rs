//! The masked network: what the slimmed one must compute.

use tch::Tensor;

use super::matching;
use crate::plan::{Plan, Role};
use crate::tracer::Graph;
use crate::{Error, Result};

/// Sets every trained value of the removed channels to zero, in the layers that score: γ and β of a batch norm.
pub(crate) fn apply(graph: &Graph, plan: &Plan) -> Result<()> {
    matching::check(graph, plan)?;
    let _no_grad = tch::no_grad_guard();
    let mut masked = Vec::new();
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        let Some((_, axis)) = node.score else { continue };
        let planned = &layer.axes[axis];
        let mut removed = vec![true; planned.width];
        planned.keep.iter().for_each(|position| removed[position] = false);
        for bound in node.tensors.iter().filter(|bound| bound.role == Role::Parameter && bound.axes == [Some(axis)]) {
            let fill = || bound.tensor.f_masked_fill(&Tensor::f_from_slice(&removed)?.f_to_device(bound.tensor.device())?, 0.0);
            let new = fill().map_err(Error::torch(format!("{}.{}", node.path, bound.name)))?;
            masked.push((bound.tensor.shallow_clone(), new));
        }
    }
    masked.iter_mut().try_for_each(|(tensor, new)| tensor.f_copy_(new).map_err(Error::torch("masking")))
}
