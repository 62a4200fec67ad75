//! A part of a plan: some of its channels go, the others stay after all.

use crate::analysis::Graph;
use crate::graph::KeepList;
use crate::plan::Plan;
use crate::slimming::Slimming;

/// The plan, as far as it removes channels of classes that `removes` names. More stays than before,
/// so what was sound still is.
pub(crate) fn restricted(graph: &Graph, plan: &Plan, removes: impl Fn(usize) -> bool) -> Plan {
    let mut part = plan.clone();
    for (node, layer) in graph.layers.iter().zip(&mut part.layers) {
        for (axis, planned) in node.axes.iter().zip(&mut layer.axes) {
            let back = removed(&planned.keep, planned.width)
                .filter(|&position| !removes(graph.class(axis.ids[position])));
            let back: Vec<_> = back.collect();
            if !back.is_empty() {
                planned.keep = planned.keep.iter().chain(back).collect();
            }
        }
    }
    part
}

/// The plan that drops what removed channels sent on.
pub(crate) fn without_absorption(plan: &Plan) -> Plan {
    Plan { slimming: Slimming { absorb: None, ..plan.slimming.clone() }, ..plan.clone() }
}

/// The plan of the same network that removes nothing.
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

/// The positions that go.
pub(crate) fn removed(keep: &KeepList, width: usize) -> impl Iterator<Item = usize> {
    let mut kept = keep.iter().peekable();
    (0..width).filter(move |position| kept.next_if_eq(position).is_none())
}
