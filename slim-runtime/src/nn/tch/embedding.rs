//! `Prunable` for tch's embedding: weight `[entries, out]`.

use tch::Tensor;
use tch::nn::Embedding;

use crate::error::WiringError;
use crate::graph::arguments;
use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

impl Prunable for Embedding {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_embedding(cx, &input, &self.ws)
    }
}

/// Traces a table of vectors. It makes new channels, since its input is indices and has none.
pub(crate) fn trace_embedding(cx: &mut Tracer, input: &Flow, weight: &Tensor) -> Result<Flow> {
    let shape = weight.size();
    let [_, width] = shape[..] else {
        let rule = "has not the two dimensions [entries, out]".to_owned();
        return Err(Error::Wiring(WiringError::Shape {
            path: cx.path(),
            tensor: "weight".to_owned(),
            shape,
            rule,
        }));
    };
    let mut layer = cx.layer(LayerKind::Embedding);
    layer.looks_up(input);
    let written = layer.write_features("out", width)?;
    layer.parameter("weight", weight, &[(1, written)])?;
    let vectors = layer.pass(written)?;
    cx.call("embedding", arguments![input, weight], &vectors);
    Ok(vectors)
}
