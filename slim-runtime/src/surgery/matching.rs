//! Whether a plan is this network's, and sound.

use crate::plan::{LayerPlan, Plan};
use crate::tracer::{Graph, LayerNode};
use crate::{Error, Result};

/// # Errors
/// [`Error::PlanMismatch`] with the first difference, [`Error::PlanInvalid`].
pub(super) fn check(graph: &Graph, plan: &Plan) -> Result<()> {
    let mut pairs = graph.layers.iter().zip(&plan.layers);
    if let Some(difference) = pairs.find_map(|(node, layer)| difference(graph, node, layer)) {
        return Err(Error::PlanMismatch { difference });
    }
    let (model, planned) = (graph.layers.len(), plan.layers.len());
    if model != planned {
        return Err(Error::PlanMismatch { difference: format!("the model has {model} layers, the plan {planned}") });
    }
    check_keep(graph, plan).map_err(|reason| Error::PlanInvalid { reason })
}

fn difference(graph: &Graph, node: &LayerNode, layer: &LayerPlan) -> Option<String> {
    let path = &node.path;
    if (path, &node.kind) != (&layer.path, &layer.kind) {
        return Some(format!("the model has `{path}` ({}) where the plan has `{}` ({})", node.kind, layer.path, layer.kind));
    }
    let model: Vec<_> = node.axes.iter().map(|axis| (&*axis.name, axis.ids.len())).collect();
    let planned: Vec<_> = layer.axes.iter().map(|axis| (axis.name.as_str(), axis.width)).collect();
    if model != planned {
        return Some(format!("`{path}` has the channels {} in the model, {} in the plan", list(&model), list(&planned)));
    }
    let names = |names: Vec<&str>| names.join(", ");
    let model = names(node.tensors.iter().map(|tensor| tensor.name).collect());
    let planned = names(layer.tensors.iter().map(|tensor| tensor.name.as_str()).collect());
    if model != planned {
        return Some(format!("`{path}` has the tensors {model} in the model, {planned} in the plan"));
    }
    let ranked = node.ranked.as_ref().filter(|ranked| ranked.first).map(|ranked| &*node.axes[ranked.axis].name);
    if let Some(scored) = layer.scored.as_ref().filter(|scored| ranked != Some(scored.axis.as_str())) {
        return Some(format!("`{path}` does not rank its channels `{}` in the model", scored.axis));
    }
    node.tensors.iter().zip(&layer.tensors).find_map(|(bound, planned)| {
        let name = bound.name;
        if node.dims(bound) != planned.dims {
            let (model, plan) = (bound.tensor.size(), layer.shape_before(planned));
            return Some(format!("`{path}.{name}` has shape {model:?} in the model, {plan:?} in the plan"));
        }
        let tied = bound.tied.map(|owner| graph.tensor_path(owner));
        (tied != planned.tied).then(|| format!("`{path}.{name}` is shared in one of them and not in the other"))
    })
}

fn list(axes: &[(&str, usize)]) -> String {
    let axes: Vec<_> = axes.iter().map(|(name, width)| format!("{name} {width}")).collect();
    format!("({})", axes.join(", "))
}

/// One channel has one fate, held channels stay, and nothing ends up empty.
fn check_keep(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let mut fate: Vec<Option<(bool, &str)>> = vec![None; graph.class.len()];
    for (node, layer) in graph.layers.iter().zip(&plan.layers) {
        let path = node.path.as_str();
        for (axis, planned) in node.axes.iter().zip(&layer.axes) {
            let mut kept = vec![false; axis.ids.len()];
            planned.keep.iter().for_each(|position| kept[position] = true);
            if planned.keep.len() < axis.least.min(kept.len()) {
                let left = if planned.keep.is_empty() { "no channel".to_owned() } else { format!("{} channels", planned.keep.len()) };
                return Err(format!("it leaves `{path}` {left} of `{}`, and the layer needs {}", planned.name, axis.least));
            }
            for (position, (&id, keep)) in axis.ids.iter().zip(kept).enumerate() {
                let class = graph.class(id);
                let (first, by) = *fate[class].get_or_insert((keep, path));
                if first != keep {
                    let (keeps, removes) = if keep { (path, by) } else { (by, path) };
                    return Err(format!(
                        "`{keeps}` keeps a channel that `{removes}` removes (position {position} of `{}` in `{path}`)",
                        planned.name
                    ));
                }
                if let (false, Some(hold)) = (keep, &graph.held[class]) {
                    return Err(format!("it removes position {position} of `{}` in `{path}`, which must stay: {hold}", planned.name));
                }
            }
        }
    }
    Ok(())
}
