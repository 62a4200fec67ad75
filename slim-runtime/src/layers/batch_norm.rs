//! Batch norms: everything `[channels]`.

use tch::Tensor;
use tch::nn::BatchNorm;

use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

impl Prunable for BatchNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_batch_norm(cx, &input, self.ws.as_ref(), self.bs.as_ref(), &self.running_mean, &self.running_var)
    }
}

/// With γ and β it scores its channels and gates them; without, nothing takes its output to zero.
pub(crate) fn trace_batch_norm(
    cx: &mut Tracer,
    input: &Flow,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    running_mean: &Tensor,
    running_var: &Tensor,
) -> Result<Flow> {
    let shape = running_mean.size();
    let [width] = shape[..] else {
        let rule = "is not [channels]".to_owned();
        return Err(Error::Shape { path: cx.path(), tensor: "running_mean".to_owned(), shape, rule });
    };
    let mut layer = cx.layer(LayerKind::BatchNorm);
    let channels = layer.follow("channels", input, width)?;
    if let Some(gamma) = gamma {
        layer.score("weight", gamma, channels)?;
    }
    if let Some(beta) = beta {
        layer.parameter("bias", beta, &[(0, channels)])?;
    }
    layer.buffer("running_mean", running_mean, &[(0, channels)])?;
    layer.buffer("running_var", running_var, &[(0, channels)])?;
    Ok(if gamma.is_some() { layer.gate(channels) } else { layer.ungate(channels) })
}
