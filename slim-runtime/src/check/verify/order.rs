//! Compares the order in which layers run with the order that their fields declare.

use crate::analysis::Graph;
use crate::graph::memory;
use crate::nn::recorder;

/// Describes the first layer that `forward` runs where a declared wiring has another one; `None` if
/// they agree, or if no layer reports that it runs.
///
/// tch's own layers do not report, so both orders leave them out.
pub(super) fn difference(graph: &Graph, forward: impl FnOnce()) -> Option<String> {
    if graph.declared.is_empty() {
        return None;
    }
    let layer_of = |weight: &tch::Tensor| {
        let place = memory(weight)?;
        let has = |layer: &&crate::graph::LayerNode| {
            layer.tensors.iter().any(|bound| memory(&bound.tensor).as_ref() == Some(&place))
        };
        graph.layers.iter().find(has).map(|layer| layer.path.as_str())
    };
    let ran: Vec<&str> =
        recorder::record(forward).iter().filter_map(|record| layer_of(&record.weight)).collect();
    let declared = graph.layers.iter().map(|layer| layer.path.as_str());
    let declared: Vec<&str> = declared.filter(|path| ran.contains(path)).collect();
    let (ran, said) = ran.into_iter().zip(declared).find(|(ran, said)| ran != said)?;
    let types = graph.declared.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    Some(format!(
        "`forward` runs `{ran}` where the fields of {} declare `{said}`; put the fields in the order of `forward`, or read the wiring from it with `#[forward]`",
        types.join(", ")
    ))
}
