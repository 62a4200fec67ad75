//! Makes a plan that narrows a dense network to the widths of a slimmed one.

use super::choose::{Choice, RankedLayer};
use crate::analysis::{Graph, Masking};
use crate::error::PlanError;
use crate::graph::{LayerKind, LayerNode, State};
use crate::plan::{Cfg, Plan, Stage};
use crate::slimming::Slimming;
use crate::{Error, Result};

/// Keeps the first channels of each batch norm.
///
/// # Errors
/// [`ArgumentError::Cfg`](crate::error::ArgumentError::Cfg) when a width is below 1;
/// [`PlanError::CfgMismatch`](crate::error::PlanError::CfgMismatch) when the entries of the cfg do
/// not match the network, when one stream would keep two widths, or when a split, a shuffle or a
/// selection would be narrowed.
pub(crate) fn plan_for(graph: &Graph, cfg: &Cfg) -> Result<Plan> {
    let error = |difference: String| {
        Error::Plan(PlanError::CfgMismatch { cfg: cfg.to_string(), difference })
    };
    cfg.check()?;
    let mut stages = cfg.stages().iter();
    let mut keep: Vec<Option<bool>> = vec![None; graph.channel_group.len()];
    for layer in graph.layers.iter().filter(|layer| is_entry(layer)) {
        let path = &layer.path;
        match (stages.next(), &layer.kind) {
            (Some(Stage::MaxPool), LayerKind::MaxPool) => {}
            (Some(&Stage::Channels(width)), LayerKind::BatchNorm) => {
                narrow(graph, layer, width, &mut keep).map_err(error)?;
            }
            (found, _) => {
                let found = found.map_or_else(|| "ends".to_owned(), |stage| format!("has {stage}"));
                return Err(error(format!(
                    "it {found} where the model has `{path}` ({})",
                    layer.kind
                )));
            }
        }
    }
    if stages.next().is_some() {
        return Err(error("it has more entries than the model".to_owned()));
    }
    let scored: Vec<bool> = keep.iter().map(Option::is_some).collect();
    let keep: Vec<bool> = keep.into_iter().map(|keep| keep.unwrap_or(true)).collect();
    if let Some(layer) = graph.layers.iter().find(|layer| goes_by_number(graph, layer, &keep)) {
        let (path, kind) = (&layer.path, &layer.kind);
        return Err(error(format!(
            "`{path}` ({kind}) depends on which channels are removed, which a plan says and a cfg does not; use the plan"
        )));
    }
    let ranked = graph
        .layers
        .iter()
        .map(|layer| layer.ranked.as_ref().filter(|ranked| ranked.is_scale && ranked.first));
    let choice = Choice {
        threshold: None,
        unwanted: keep.iter().map(|keep| !keep).collect(),
        keep,
        bound: vec![None; scored.len()],
        held: graph.held.clone(),
        scored,
        compared: vec![None; graph.channel_group.len()],
        classes: vec![None; graph.channel_group.len()],
        ranked: ranked
            .map(|ranked| Some(RankedLayer { axis: ranked?.axis, threshold: None, class: None }))
            .collect(),
    };
    // Ranked by weights, more channels may have been removed than by γ, and a cfg does not record
    // which criterion was used. So the plan uses the masking that allows more.
    Ok(super::plan_of(graph, Slimming::ratio(0.).masking(Masking::Parameters), &choice))
}

/// Whether a layer knows removed channels by number, which neither its tensors nor the widths
/// record.
fn goes_by_number(graph: &Graph, layer: &LayerNode, keep: &[bool]) -> bool {
    let loses = |axis: usize| layer.axes[axis].ids.iter().any(|&id| !keep[graph.channel_group(id)]);
    let numbers = layer
        .states
        .iter()
        .filter(|(_, state)| matches!(state, State::Indices { .. }) || state.axes().len() > 1);
    numbers.flat_map(|(_, state)| state.axes()).any(loses)
}

fn is_entry(layer: &LayerNode) -> bool {
    layer.kind.is_cfg_entry(layer.tensors.iter().map(|tensor| tensor.tied.is_some()))
}

/// Counts the channels that must stay first, then keeps the foremost of the others.
fn narrow(
    graph: &Graph,
    layer: &LayerNode,
    width: i64,
    keep: &mut [Option<bool>],
) -> Result<(), String> {
    let channel_groups: Vec<_> = layer
        .axes
        .first()
        .map(|axis| axis.ids.iter().map(|&id| graph.channel_group(id)).collect())
        .unwrap_or_default();
    let known = |channel_group: &usize| {
        keep[*channel_group].or(graph.held[*channel_group].as_ref().map(|_| true))
    };
    let staying =
        channel_groups.iter().filter(|channel_group| known(channel_group) == Some(true)).count()
            as i64;
    // A channel group can occur several times: in each group, or at each position of a flatten.
    let mut open: Vec<(usize, i64)> = Vec::new();
    for &channel_group in
        channel_groups.iter().filter(|channel_group| known(channel_group).is_none())
    {
        match open.iter_mut().find(|(found, _)| *found == channel_group) {
            Some((_, times)) => *times += 1,
            None => open.push((channel_group, 1)),
        }
    }
    let (least, most) =
        (staying.max(1), staying + open.iter().map(|(_, times)| times).sum::<i64>());
    if !(least..=most).contains(&width) {
        let may = if least == most { format!("{least}") } else { format!("{least} to {most}") };
        return Err(format!(
            "it has {width} where `{}` keeps {may} of {} channels",
            layer.path,
            channel_groups.len()
        ));
    }
    let mut kept = staying;
    for (channel_group, times) in open {
        let stays = kept + times <= width;
        kept += if stays { times } else { 0 };
        keep[channel_group] = Some(stays);
    }
    if kept == width {
        Ok(())
    } else {
        Err(format!(
            "it has {width} where the channels of `{}` go several at once, and {kept} can stay",
            layer.path
        ))
    }
}
