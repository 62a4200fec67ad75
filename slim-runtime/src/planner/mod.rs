//! From a model to a plan: trace, score, choose. Nothing here changes the model.

mod narrow;
mod scores;
mod select;

use crate::plan::{AxisPlan, Hold, LayerPlan, Plan, Scored, Slimming, TensorPlan, Unscored};
use crate::tracer::{Graph, LayerNode, Tracer};
use crate::{Prunable, Result};
pub(crate) use narrow::plan_for;
use scores::Scores;
use select::Choice;

/// The channel dependencies of a whole model.
pub(crate) fn trace<M: Prunable + ?Sized>(model: &M) -> Result<Graph> {
    trace_with(model, Tracer::default())
}

pub(crate) fn trace_with<M: Prunable + ?Sized>(model: &M, mut cx: Tracer) -> Result<Graph> {
    let input = cx.open();
    let output = model.trace(&mut cx, input)?;
    Ok(cx.finish(&output))
}

pub(crate) fn plan(graph: &Graph, slimming: &Slimming) -> Result<Plan> {
    slimming.check()?;
    let scores = Scores::read(graph, slimming.coupling)?;
    let choice = select::by_threshold(graph, &scores, slimming.ratio)?;
    let layers = graph.layers.iter().map(|layer| layer_plan(graph, &choice, layer)).collect();
    Ok(Plan { format: Plan::FORMAT, slimming: *slimming, threshold: choice.threshold, layers })
}

fn layer_plan(graph: &Graph, choice: &Choice, layer: &LayerNode) -> LayerPlan {
    let axes = layer.axes.iter().map(|axis| AxisPlan {
        name: axis.name.to_string(),
        width: axis.ids.len(),
        keep: (0..axis.ids.len()).filter(|&position| choice.keep[graph.class(axis.ids[position])]).collect(),
    });
    let tensors = layer.tensors.iter().map(|tensor| TensorPlan {
        name: tensor.name.to_owned(),
        dims: layer.dims(tensor),
        role: tensor.role,
        tied: tensor.tied.map(|owner| graph.tensor_path(owner)),
    });
    let scored = layer.scale.as_ref().filter(|scale| scale.first).map(|scale| {
        let axis = &layer.axes[scale.axis];
        let classes = || axis.ids.iter().map(|&id| graph.class(id));
        Scored {
            axis: axis.name.to_string(),
            removable: graph.removable(axis),
            held: classes().find_map(|class| graph.held[class].as_deref().cloned()),
            floor: classes().any(|class| choice.floored.contains(&class)),
        }
    });
    let unscored = layer.axes.iter().find(|axis| axis.made).and_then(|axis| {
        let staying = axis.ids.iter().map(|&id| graph.class(id)).filter(|&class| !choice.scored[class]);
        let staying: Vec<_> = staying.filter(|&class| !matches!(graph.held[class].as_deref(), Some(Hold::Input | Hold::Output))).collect();
        let held = graph.held[*staying.first()?].as_deref().cloned().unwrap_or(Hold::Unscored);
        Some(Unscored { axis: axis.name.to_string(), channels: staying.len(), held })
    });
    LayerPlan { path: layer.path.clone(), kind: layer.kind.clone(), axes: axes.collect(), tensors: tensors.collect(), scored, unscored }
}
