//! Carrying out a plan: every new tensor first, then the commit, and back again if anything disagrees.

mod expand;
mod fit;
pub(crate) mod mask;
mod matching;
mod sharing;
mod states;
mod swap;

use crate::plan::{Plan, Positions, Slimmed};
use crate::tracer::Graph;
use crate::{Error, Prunable, Result};
pub(crate) use expand::expand;
pub(crate) use fit::{Fit, fit};
use sharing::Sharing;
pub use states::LayerVisitor;
use states::States;
use swap::Swaps;
pub(crate) use swap::{Value, replace};

/// Selects, in every bound dimension of every tensor, the positions that stay.
pub(crate) fn apply<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<Slimmed> {
    apply_with(model, graph, plan, Vec::new())
}

/// Like [`apply`], and gives tensors new values in the same transaction. Those of a tensor that shrinks have its shape of afterwards.
pub(crate) fn apply_with<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan, values: Vec<Value>) -> Result<Slimmed> {
    matching::check(graph, plan)?;
    let mut states = States::collect(graph, plan);
    states.check(model)?;
    let mut swaps = Swaps::selecting(graph, plan)?;
    let sharing = Sharing::of(graph, &values);
    swaps.add_values(values)?;

    let committed =
        swaps.commit().and_then(|()| check_shapes(graph, plan)).and_then(|()| sharing.check()).and_then(|()| states.write(model));
    if let Err(error) = committed {
        states.restore(model);
        swaps.roll_back();
        return Err(error);
    }
    Ok(Slimmed::new(plan.clone(), graph, states.positions()))
}

/// The positions that a model stores once a plan is carried out. Nothing changes.
///
/// # Errors
/// Those of [`LayerVisitor`].
pub(crate) fn positions<M: Prunable + ?Sized>(model: &mut M, graph: &Graph, plan: &Plan) -> Result<Positions> {
    let mut states = States::collect(graph, plan);
    states.check(model)?;
    Ok(states.positions())
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
