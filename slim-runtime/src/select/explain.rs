//! Why each channel of a layer stays or goes.

use super::choose::{self, Choice};
use super::scores::Scores;
use crate::analysis::Graph;
use crate::error::SelectionError;
use crate::graph::{AxisRole, KeepReason, LayerNode};
use crate::plan::OWN;
use crate::select::{ChannelDecision, Explanation, Reason};
use crate::slimming::Slimming;
use crate::{Error, Result};

/// # Errors
/// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer), and the errors of planning.
pub(crate) fn explain(graph: &Graph, slimming: &Slimming, path: &str) -> Result<Explanation> {
    slimming.check()?;
    let Some(index) =
        graph.layers.iter().position(|layer| layer.path == path && !layer.axes.is_empty())
    else {
        let known = graph
            .layers
            .iter()
            .filter(|layer| !layer.axes.is_empty())
            .map(|layer| layer.path.clone())
            .collect();
        return Err(Error::Selection(SelectionError::NoLayer { pattern: path.to_owned(), known }));
    };
    let scores = Scores::read(graph, slimming)?;
    let choice = choose::choose(graph, &scores, slimming)?;
    let layer = &graph.layers[index];
    let axis = &layer.axes[own_axis(layer)];
    let channel_groups: Vec<_> = axis.ids.iter().map(|&id| graph.channel_group(id)).collect();
    let mut together = together(graph, &channel_groups, index);
    let channels =
        channel_groups.iter().enumerate().map(|(position, &channel_group)| ChannelDecision {
            position,
            score: scores.by_channel_group[channel_group],
            threshold: choice.compared[channel_group],
            stays: choice.keep[channel_group],
            reason: reason(&choice, channel_group),
            held_at: choice.held[channel_group]
                .as_deref()
                .and_then(|reason| source_of(graph, reason)),
            together: together.get_mut(position).map(std::mem::take).unwrap_or_default(),
        });
    let mut classes: Vec<usize> =
        channel_groups.iter().filter_map(|&group| choice.classes[group]).collect();
    classes.sort_unstable();
    classes.dedup();
    let classes = classes.into_iter().map(|first| graph.layers[first].path.clone());
    Ok(Explanation {
        path: path.to_owned(),
        at: layer.source(),
        axis: axis.name.to_string(),
        criterion: slimming.criterion.name(),
        classes: classes.collect(),
        channels: channels.collect(),
    })
}

/// Where `forward` applies the layer that keeps the channels.
fn source_of(graph: &Graph, reason: &KeepReason) -> Option<String> {
    let (KeepReason::Ungated { by }
    | KeepReason::Mixed { by }
    | KeepReason::Stream { by }
    | KeepReason::Tied { by }) = reason
    else {
        return None;
    };
    graph.layers.iter().find(|layer| layer.path == *by)?.source()
}

/// The axis that the layer is ranked by; else its output, pass-through or input axis; else its
/// first.
fn own_axis(layer: &LayerNode) -> usize {
    let ranked = layer.ranked.as_ref().map(|ranked| ranked.axis);
    let named =
        || OWN.iter().find_map(|name| layer.axes.iter().position(|axis| axis.name == *name));
    ranked.or_else(named).unwrap_or(0)
}

/// For each channel group of `channel_groups`, the channels of other layers in the same channel
/// group, on axes that those layers make or scale.
fn together(graph: &Graph, channel_groups: &[usize], this: usize) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new(); graph.channel_group.len()];
    for layer in
        graph.layers.iter().enumerate().filter(|(index, _)| *index != this).map(|(_, layer)| layer)
    {
        let is_scale =
            |axis: usize| layer.ranked.as_ref().is_some_and(|ranked| ranked.axis == axis);
        for (_, axis) in layer
            .axes
            .iter()
            .enumerate()
            .filter(|(index, axis)| axis.role == AxisRole::Made || is_scale(*index))
        {
            for (position, &id) in axis.ids.iter().enumerate() {
                found[graph.channel_group(id)].push(format!("{}[{position}]", layer.path));
            }
        }
    }
    channel_groups.iter().map(|&channel_group| found[channel_group].clone()).collect()
}

fn reason(choice: &Choice, channel_group: usize) -> Reason {
    match (&choice.held[channel_group], choice.bound[channel_group]) {
        (Some(reason), _) => Reason::Held(reason.as_ref().clone()),
        (None, Some(rule)) => Reason::Bound(rule),
        (None, None) if !choice.scored[channel_group] => Reason::Unranked,
        (None, None) => Reason::Score,
    }
}
