use tch::nn::BatchNorm;

use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

/// Everything `[channels]`. With γ and β it scores its channels and gates them; without, nothing takes its output to zero.
impl Prunable for BatchNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let shape = self.running_mean.size();
        let [width] = shape[..] else {
            let rule = "is not [channels]".to_owned();
            return Err(Error::Shape { path: cx.path(), tensor: "running_mean".to_owned(), shape, rule });
        };
        let mut layer = cx.layer(LayerKind::BatchNorm);
        let channels = layer.follow("channels", &input, width)?;
        if let Some(gamma) = &self.ws {
            layer.score("weight", gamma, channels)?;
        }
        if let Some(beta) = &self.bs {
            layer.parameter("bias", beta, &[(0, channels)])?;
        }
        layer.buffer("running_mean", &self.running_mean, &[(0, channels)])?;
        layer.buffer("running_var", &self.running_var, &[(0, channels)])?;
        Ok(if self.ws.is_some() { layer.gate(channels) } else { layer.ungate(channels) })
    }
}
