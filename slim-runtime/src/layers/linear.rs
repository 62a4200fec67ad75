use tch::nn::Linear;

use crate::tracer::Reach;
use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

/// Weight `[out, in]`, bias `[out]`. Behind a flatten, each channel is `in / channels` columns in a row.
impl Prunable for Linear {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let shape = self.ws.size();
        let [out_features, in_features] = shape[..] else {
            let rule = "has not the two dimensions [out, in]".to_owned();
            return Err(Error::Shape { path: cx.path(), tensor: "weight".to_owned(), shape, rule });
        };
        let mut layer = cx.layer(LayerKind::Linear);
        let read = layer.read_flattened("in", &input, in_features)?;
        let written = layer.write_features("out", out_features)?;
        layer.parameter("weight", &self.ws, &[(0, written), (1, read)])?;
        if let Some(bias) = &self.bs {
            layer.parameter("bias", bias, &[(0, written)])?;
        }
        layer.mixes(1, Reach::Everywhere);
        layer.pass(written)
    }
}
