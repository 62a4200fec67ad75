use tch::nn::Conv;

use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

/// Weight `[out, in, …]`, bias `[out]`. New channels, and a reader of all its input channels.
impl<ND> Prunable for Conv<ND> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let shape = self.ws.size();
        let [out_channels, in_channels, ..] = shape[..] else {
            let rule = "has fewer than the two dimensions [out, in, …]".to_owned();
            return Err(Error::Shape { path: cx.path(), tensor: "weight".to_owned(), shape, rule });
        };
        let mut layer = cx.layer(LayerKind::Conv);
        let read = layer.read("in", &input, in_channels)?;
        let written = layer.write("out", out_channels);
        layer.parameter("weight", &self.ws, &[(0, written), (1, read)])?;
        if let Some(bias) = &self.bs {
            layer.parameter("bias", bias, &[(0, written)])?;
        }
        Ok(layer.pass(written))
    }
}
