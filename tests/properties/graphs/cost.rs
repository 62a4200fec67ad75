//! The expected cost of a network, by formulas that do not depend on a run.

use slim_runtime::{Cost, Prunable};

use crate::graph::{Conv, Graph, Op, Spec};
use crate::net::Net;

/// MACs of one sample; `None` if a layer is tch's own, which cannot be counted.
pub fn expected(graph: &Graph) -> Option<i64> {
    let applied = graph.ops.iter().filter_map(|op| match op {
        Op::Apply { layer, .. } => Some(&graph.layers[*layer].spec),
        _ => None,
    });
    let macs = applied.map(|spec| match spec {
        Spec::Conv(Conv { plain: true, .. })
        | Spec::ConvTranspose(Conv { plain: true, .. })
        | Spec::Linear { plain: true, .. } => None,
        // All images have the same size, in front of a convolution and behind it.
        Spec::Conv(conv) | Spec::ConvTranspose(conv) => {
            let kernel = conv.kernel.pow(graph.rank as u32);
            Some(graph.positions() * kernel * conv.inputs * conv.outputs / conv.groups.count())
        }
        Spec::Linear { inputs, outputs, .. } => Some(inputs * outputs),
        _ => Some(0),
    });
    macs.sum()
}

/// The recorded cost.
pub fn found(net: &Net) -> Cost {
    let images = net.images();
    net.cost_of_batch(images[0].size()[0], |net| net.forward(&images)).unwrap()
}
