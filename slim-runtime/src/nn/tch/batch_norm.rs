//! `Prunable` for tch's batch norms. All tensors have the shape `[channels]`.

use tch::Tensor;
use tch::nn::BatchNorm;

use super::conv::printed;
use crate::error::WiringError;
use crate::graph::{LayerMut, NormMut, arguments};
use crate::{Error, Flow, LayerKind, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

impl Prunable for BatchNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        // tch keeps the momentum private, but prints it.
        let momentum = printed(self, "momentum").parse().ok();
        trace_batch_norm(
            cx,
            &input,
            [&self.running_mean, &self.running_var],
            [self.ws.as_ref(), self.bs.as_ref()],
            (momentum, printed(self, "eps").parse().ok()),
        )
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.scaled_layer(self.ws.as_ref().map(|scale| ("weight", scale)));
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.layer(|| {
            let eps = printed(self, "eps").parse().ok()?;
            let statistics = [&mut self.running_mean, &mut self.running_var];
            Some(LayerMut::Norm(NormMut {
                statistics,
                affine: [&mut self.ws, &mut self.bs],
                eps,
                momentum: None,
                folded: None,
            }))
        })
    }
}

/// Traces a batch norm. With γ its channels are scored and gated; without γ they are ungated, since
/// no parameter can set the output to zero.
pub(crate) fn trace_batch_norm(
    cx: &mut Tracer,
    input: &Flow,
    [running_mean, running_var]: [&Tensor; 2],
    [gamma, beta]: [Option<&Tensor>; 2],
    (momentum, eps): (Option<f64>, Option<f64>),
) -> Result<Flow> {
    let width = running_mean.numel() as i64;
    let named = [
        ("running_mean", Some(running_mean)),
        ("running_var", Some(running_var)),
        ("weight", gamma),
        ("bias", beta),
    ];
    for (name, tensor) in named {
        if let Some(shape) = tensor.map(Tensor::size).filter(|shape| *shape != [width]) {
            return Err(Error::Wiring(WiringError::Shape {
                path: cx.path(),
                tensor: name.to_owned(),
                shape,
                rule: format!("is not [{width}], one value per channel"),
            }));
        }
    }
    let mut layer = cx.layer(LayerKind::BatchNorm);
    layer.momentum(momentum);
    let channels = layer.follow("channels", input, width)?;
    if let Some(gamma) = gamma {
        layer.score("weight", gamma, channels)?;
    }
    if let Some(beta) = beta {
        layer.parameter("bias", beta, &[(0, channels)])?;
    }
    layer.buffer("running_mean", running_mean, &[(0, channels)])?;
    layer.buffer("running_var", running_var, &[(0, channels)])?;
    let normed = if gamma.is_some() {
        layer.gate_to(channels, beta.map(|_| "bias"))?
    } else {
        layer.ungate(channels)?
    };
    let arguments = arguments![input, running_mean, running_var, gamma, beta, eps];
    cx.call("batch_norm", arguments, &normed);
    Ok(normed)
}
