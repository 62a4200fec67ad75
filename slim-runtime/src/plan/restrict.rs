//! Plans derived from another plan: with fewer removals, or without absorption.

use crate::analysis::Graph;
use crate::graph::KeepList;
use crate::plan::Plan;
use crate::slimming::Slimming;

/// The plan restricted to the channel groups for which `removes` is true; all other channels stay.
/// A sound plan remains sound, since no further channel is removed.
pub(crate) fn restricted(graph: &Graph, plan: &Plan, removes: impl Fn(usize) -> bool) -> Plan {
    let mut part = plan.clone();
    for (node, layer) in graph.layers.iter().zip(&mut part.layers) {
        for (axis, planned) in node.axes.iter().zip(&mut layer.axes) {
            let back = removed(&planned.keep, planned.width)
                .filter(|&position| !removes(graph.channel_group(axis.ids[position])));
            let back: Vec<_> = back.collect();
            if !back.is_empty() {
                planned.keep = planned.keep.iter().chain(back).collect();
            }
        }
    }
    part
}

/// The plan without absorption, which drops the constants of removed channels.
pub(crate) fn without_absorption(plan: &Plan) -> Plan {
    Plan { slimming: Slimming { absorb: None, ..plan.slimming.clone() }, ..plan.clone() }
}

/// The plan for the same network that removes nothing.
pub(crate) fn without_removals(plan: &Plan) -> Plan {
    let mut dense =
        Plan { slimming: Slimming::ratio(0.), threshold: None, ..plan.clone() }.warned(Vec::new());
    for layer in &mut dense.layers {
        layer.axes.iter_mut().for_each(|axis| axis.keep = (0..axis.width).collect());
        if let Some(scored) = &mut layer.scored {
            (scored.threshold, scored.bounded) = (None, None);
        }
    }
    dense
}

/// The positions below `width` that are not in `keep`.
pub(crate) fn removed(keep: &KeepList, width: usize) -> impl Iterator<Item = usize> {
    let mut kept = keep.iter().peekable();
    (0..width).filter(move |position| kept.next_if_eq(position).is_none())
}
