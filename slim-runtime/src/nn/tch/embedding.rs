use tch::nn::Embedding;

use crate::error::WiringError;
use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

/// Weight `[entries, out]`. The layer makes new channels; its input is indices and has no channels.
impl Prunable for Embedding {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let shape = self.ws.size();
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
        layer.looks_up(&input);
        let written = layer.write_features("out", width)?;
        layer.parameter("weight", &self.ws, &[(1, written)])?;
        layer.pass(written)
    }
}
