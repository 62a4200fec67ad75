//! From a model to a plan: trace, score, choose. The model does not change.

mod budget;
mod choose;
mod common_share;
mod explain;
mod explanation;
mod greedy;
mod health;
mod narrow;
mod per_group;
mod ranking_groups;
mod round;
mod scores;

use crate::Result;
use crate::analysis::Graph;
use crate::graph::{AxisNode, AxisRole, KeepReason, LayerNode, TensorNode};
use crate::plan::{AxisPlan, Bounded, Dim, LayerPlan, Plan, Scored, TensorPlan, Unscored, Warning};
use crate::slimming::{Rule, Slimming};
use choose::{Choice, RankedLayer};
pub(crate) use explain::explain;
pub use explanation::{ChannelDecision, Explanation, Reason};
pub(crate) use narrow::plan_for;
pub(crate) use per_group::{Fingerprint, PerGroup};
use scores::Scores;
pub(crate) use scores::of_layers as scores;

pub(crate) fn plan(graph: &Graph, slimming: &Slimming) -> Result<Plan> {
    slimming.check()?;
    let scores = Scores::read(graph, slimming)?;
    let choice = choose::choose(graph, &scores, slimming)?;
    let mut warnings = health::warnings(slimming, &scores, &choice);
    warnings.extend(graph.size_questions.iter().map(|at| Warning::Sizes { at: at.clone() }));
    let plan = plan_of(graph, slimming.recorded(), &choice);
    warnings.extend(health::of_plan(&plan));
    Ok(plan.warned(warnings))
}

fn plan_of(graph: &Graph, slimming: Slimming, choice: &Choice) -> Plan {
    let layers = graph
        .layers
        .iter()
        .zip(&choice.ranked)
        .map(|(layer, ranked)| layer_plan(graph, choice, layer, *ranked))
        .collect();
    let plan = Plan {
        format: Plan::OLDEST_FORMAT,
        slimming,
        threshold: choice.threshold,
        warnings: Vec::new(),
        declared: Vec::new(),
        passes: Vec::new(),
        layers,
    };
    plan.declared_by(graph.declared.iter().map(|name| (*name).to_owned()).collect())
}

fn layer_plan(
    graph: &Graph,
    choice: &Choice,
    layer: &LayerNode,
    ranked: Option<RankedLayer>,
) -> LayerPlan {
    let axes = layer.axes.iter().map(|axis| AxisPlan {
        name: axis.name.to_string(),
        width: axis.ids.len(),
        keep: (0..axis.ids.len())
            .filter(|&position| choice.keep[graph.channel_group(axis.ids[position])])
            .collect(),
    });
    let tensors = layer.tensors.iter().map(|tensor| TensorPlan {
        name: tensor.name.to_owned(),
        dims: dims(layer, tensor),
        role: tensor.role,
        tied: tensor.tied.map(|owner| graph.tensor_path(owner)),
        variable: None,
    });
    let scored = ranked.map(|ranked| scored(graph, choice, &layer.axes[ranked.axis], ranked));
    let unscored = layer
        .axes
        .iter()
        .find(|axis| axis.role == AxisRole::Made)
        .and_then(|axis| unscored(graph, choice, axis));
    LayerPlan {
        path: layer.path.clone(),
        kind: layer.kind.clone(),
        axes: axes.collect(),
        tensors: tensors.collect(),
        scored,
        unscored,
    }
}

/// The dimensions of a layer's tensor, named by their axes.
fn dims(layer: &LayerNode, tensor: &TensorNode) -> Vec<Dim> {
    let dim = |(size, axis): (i64, &Option<usize>)| {
        axis.map_or(Dim::Size(size), |axis| Dim::Axis(layer.axes[axis].name.to_string()))
    };
    tensor.tensor.size().into_iter().zip(&tensor.axes).map(dim).collect()
}

fn scored(graph: &Graph, choice: &Choice, axis: &AxisNode, ranked: RankedLayer) -> Scored {
    let channel_groups = || axis.ids.iter().map(|&id| graph.channel_group(id));
    let mut by: Vec<Rule> = Vec::new();
    for rule in channel_groups().filter_map(|channel_group| choice.bound[channel_group]) {
        if !by.contains(&rule) {
            by.push(rule);
        }
    }
    let bounded = Bounded {
        wanted: channel_groups().filter(|&channel_group| !choice.unwanted[channel_group]).count(),
        by,
    };
    Scored {
        axis: axis.name.to_string(),
        removable: channel_groups()
            .filter(|&channel_group| choice.held[channel_group].is_none())
            .count(),
        held: channel_groups()
            .find_map(|channel_group| choice.held[channel_group].as_deref().cloned()),
        threshold: ranked.threshold,
        class: ranked.class.map(|first| graph.layers[first].path.clone()),
        bounded: (!bounded.by.is_empty()).then_some(bounded),
    }
}

fn unscored(graph: &Graph, choice: &Choice, axis: &AxisNode) -> Option<Unscored> {
    let staying = axis
        .ids
        .iter()
        .map(|&id| graph.channel_group(id))
        .filter(|&channel_group| !choice.scored[channel_group]);
    let staying: Vec<_> = staying
        .filter(|&channel_group| {
            !matches!(
                graph.held[channel_group].as_deref(),
                Some(KeepReason::Input | KeepReason::Output)
            )
        })
        .collect();
    let held = graph.held[*staying.first()?].as_deref().cloned().unwrap_or(KeepReason::Unscored);
    Some(Unscored { axis: axis.name.to_string(), channels: staying.len(), held })
}
