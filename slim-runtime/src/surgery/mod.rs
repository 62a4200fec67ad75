//! Carrying out a plan: every new tensor first, then the commit, and back again if anything disagrees.

pub(crate) mod mask;
mod matching;
mod states;
mod swap;

use crate::plan::{Plan, Slimmed};
use crate::tracer::Graph;
use crate::{Error, Prunable, Result, absorb};
pub use states::LayerVisitor;
use states::States;
use swap::Swaps;

/// Selects, in every bound dimension of every tensor, the positions that stay.
pub(crate) fn apply<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<Slimmed> {
    matching::check(graph, plan)?;
    let mut states = States::collect(graph, plan);
    states.check(model)?;
    let shifts = absorb::shifts(model, plan)?;
    let mut swaps = Swaps::selecting(graph, plan, &shifts)?;

    let committed = swaps.commit().and_then(|()| check_shapes(graph, plan)).and_then(|()| states.write(model));
    if let Err(error) = committed {
        states.restore(model);
        swaps.roll_back();
        return Err(error);
    }
    Ok(Slimmed { plan: plan.clone(), absorbed: shifts.absorbed })
}

/// Every handle of a tensor must have followed it.
fn check_shapes(graph: &Graph, plan: &Plan) -> Result<()> {
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        for (bound, planned) in node.tensors.iter().zip(&layer.tensors) {
            if bound.tensor.size() != layer.shape_after(planned) {
                let owner = bound.tied.map_or_else(|| "another tensor".to_owned(), |owner| graph.tensor_path(owner));
                return Err(Error::NotShared { path: node.path.clone(), tensor: bound.name.to_owned(), owner });
            }
        }
    }
    Ok(())
}
