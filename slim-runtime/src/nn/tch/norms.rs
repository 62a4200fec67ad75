//! `Prunable` for tch's norms whose statistics mix channels. Removing one channel would change the
//! others, so all are kept.

use tch::Tensor;
use tch::nn::{GroupNorm, LayerNorm};

use super::conv::printed;
use crate::graph::{KeepReason, arguments};
use crate::{Flow, LayerKind, Prunable, Result, Tracer};

/// γ and β `[channels]`.
impl Prunable for GroupNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_mixing(
            cx,
            LayerKind::GroupNorm,
            &input,
            self.num_channels,
            [self.ws.as_ref(), self.bs.as_ref()],
        )
        .inspect(|normed| {
            let eps: Option<f64> = printed(self, "eps").parse().ok();
            let (groups, ws, bs) = (self.num_groups, self.ws.as_ref(), self.bs.as_ref());
            cx.call("group_norm", arguments![&input, groups, ws, bs, eps], normed);
        })
    }
}

/// γ and β `[…normalized shape]`, whose first or only dimension is the channels unless the norm is
/// over positions alone.
impl Prunable for LayerNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let parameters = [self.ws.as_ref(), self.bs.as_ref()];
        let eps = printed(self, "eps").parse().ok();
        trace_layer_norm(cx, &input, &self.normalized_shape, parameters, eps)
    }
}

/// Traces a layer norm over the last dimensions, of these sizes.
pub(crate) fn trace_layer_norm(
    cx: &mut Tracer,
    input: &Flow,
    normalized_shape: &[i64],
    parameters: [Option<&Tensor>; 2],
    eps: Option<f64>,
) -> Result<Flow> {
    let width = normalized_shape.first().copied().unwrap_or(0);
    // A norm over positions alone does not have the channels in its shape, so a known width of the
    // input takes precedence.
    let width = cx.known_width(input).unwrap_or(width);
    let normed = trace_mixing(cx, LayerKind::LayerNorm, input, width, parameters)?;
    let (count, [weight, bias]) = (normalized_shape.len() as i64, parameters);
    cx.call("layer_norm", arguments![input, count, weight, bias, eps], &normed);
    Ok(normed)
}

/// Traces a norm that holds all `width` channels; `parameters` are γ and β.
fn trace_mixing(
    cx: &mut Tracer,
    kind: LayerKind,
    input: &Flow,
    width: i64,
    parameters: [Option<&Tensor>; 2],
) -> Result<Flow> {
    let mut layer = cx.layer(kind);
    let channels = layer.follow_anywhere("channels", input, width)?;
    let by = layer.path();
    layer.hold(channels, KeepReason::Mixed { by })?;
    for (name, tensor) in ["weight", "bias"].into_iter().zip(parameters) {
        let Some(tensor) = tensor else { continue };
        let per_channel: Vec<_> =
            (tensor.size().first() == Some(&width)).then_some((0, channels)).into_iter().collect();
        layer.parameter(name, tensor, &per_channel)?;
    }
    layer.ungate(channels)
}
