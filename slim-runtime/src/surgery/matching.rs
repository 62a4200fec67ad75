//! Checks that a plan fits a network and is consistent.

use crate::analysis::Graph;
use crate::error::PlanError;
use crate::graph::{LayerNode, TensorNode};
use crate::plan::outline::{DimOutline, Outline, TensorOutline};
use crate::plan::{Plan, outline};
use crate::{Error, Result};

/// # Errors
/// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) with the first difference,
/// [`PlanError::Invalid`](crate::error::PlanError::Invalid).
pub(crate) fn check(graph: &Graph, plan: &Plan) -> Result<()> {
    if let Some(difference) = difference(graph, plan, "the model") {
        let applied =
            outline::difference(&outlines(graph), &plan.outlines_after(), ["", ""]).is_none();
        let hint = if applied {
            "; it is what the plan leaves, as if it had been applied already"
        } else {
            ""
        };
        return Err(Error::Plan(PlanError::Mismatch { difference: difference + hint }));
    }
    check_keep(graph, plan).map_err(|reason| Error::Plan(PlanError::Invalid { reason }))
}

/// The first difference of a model from the network that a plan was made for.
pub(super) fn difference(graph: &Graph, plan: &Plan, model: &str) -> Option<String> {
    outline::difference(&outlines(graph), &plan.outlines_before(), [model, "the plan"]).or_else(
        || {
            let mut layers = graph.layers.iter().zip(&plan.layers);
            layers.find_map(|(node, layer)| {
                let ranked = node
                    .ranked
                    .as_ref()
                    .filter(|ranked| ranked.first)
                    .map(|ranked| &*node.axes[ranked.axis].name);
                let scored =
                    layer.scored.as_ref().filter(|scored| ranked != Some(scored.axis.as_str()))?;
                Some(format!(
                    "`{}` does not rank its channels `{}` in {model}",
                    node.path, scored.axis
                ))
            })
        },
    )
}

pub(super) fn outlines(graph: &Graph) -> Vec<Outline<'_>> {
    let outlines = graph.layers.iter().map(|node| Outline {
        path: &node.path,
        kind: &node.kind,
        axes: node.axes.iter().map(|axis| (&*axis.name, axis.ids.len())).collect(),
        tensors: node.tensors.iter().map(|bound| tensor_outline(graph, node, bound)).collect(),
    });
    outlines.collect()
}

fn tensor_outline<'g>(graph: &Graph, node: &'g LayerNode, bound: &TensorNode) -> TensorOutline<'g> {
    let shape = bound.tensor.size();
    let dim = |(&size, axis): (&i64, &Option<usize>)| {
        axis.map_or(DimOutline::Size(size), |axis| DimOutline::Axis(&node.axes[axis].name))
    };
    let dims = shape.iter().zip(&bound.axes).map(dim).collect();
    TensorOutline {
        name: bound.name,
        dims,
        shape,
        tied: bound.tied.map(|owner| graph.tensor_path(owner)),
    }
}

/// Checks that channels of one group stay or go together, that held channels stay, and that every
/// layer keeps the channels that it needs.
fn check_keep(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let mut fate: Vec<Option<(bool, &str)>> = vec![None; graph.channel_group.len()];
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        let path = node.path.as_str();
        for (axis, planned) in node.axes.iter().zip(&layer.axes) {
            let mut kept = vec![false; axis.ids.len()];
            planned.keep.iter().for_each(|position| kept[position] = true);
            if planned.keep.len() < axis.least.min(kept.len()) {
                let left = if planned.keep.is_empty() {
                    "no channel".to_owned()
                } else {
                    format!("{} channels", planned.keep.len())
                };
                return Err(format!(
                    "it leaves `{path}` {left} of `{}`, and the layer needs {}",
                    planned.name, axis.least
                ));
            }
            for (position, (&id, keep)) in axis.ids.iter().zip(kept).enumerate() {
                let channel_group = graph.channel_group(id);
                let (first, by) = *fate[channel_group].get_or_insert((keep, path));
                if first != keep {
                    let (keeps, removes) = if keep { (path, by) } else { (by, path) };
                    return Err(format!(
                        "`{keeps}` keeps a channel that `{removes}` removes (position {position} of `{}` in `{path}`)",
                        planned.name
                    ));
                }
                if let (false, Some(reason)) = (keep, &graph.held[channel_group]) {
                    return Err(format!(
                        "it removes position {position} of `{}` in `{path}`, which must stay: {reason}",
                        planned.name
                    ));
                }
            }
        }
    }
    Ok(())
}
