use tch::Tensor;
use tch::nn::Linear;

use crate::error::WiringError;
use crate::graph::shape::holds_channels;
use crate::graph::{BiasExactness, Maker, arguments};
use crate::{Error, Flow, LayerKind, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

impl Prunable for Linear {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_linear(cx, &input, &self.ws, self.bs.as_ref(), Maker::Tch)
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.scaled_layer(None);
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.weights(&mut self.ws, &mut self.bs, None)
    }
}

/// Traces a linear layer: weight `[out, in]`, bias `[out]`. Behind a flatten, each channel is
/// `in / channels` consecutive columns.
pub(crate) fn trace_linear(
    cx: &mut Tracer,
    input: &Flow,
    weight: &Tensor,
    bias: Option<&Tensor>,
    maker: Maker,
) -> Result<Flow> {
    let shape = weight.size();
    if shape.len() != 2 {
        let rule = "has not the two dimensions [out, in]".to_owned();
        return Err(Error::Wiring(WiringError::Shape {
            path: cx.path(),
            tensor: "weight".to_owned(),
            shape,
            rule,
        }));
    }
    let given = if mixes_positions(input) {
        trace_over_positions(cx, input, (weight, bias), maker)?
    } else {
        trace_over_channels(cx, input, (weight, bias), maker)?
    };
    cx.call("linear", arguments![input, weight, bias], &given);
    Ok(given)
}

/// Traces a linear layer that reads channels.
fn trace_over_channels(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    maker: Maker,
) -> Result<Flow> {
    let shape = weight.size();
    let (out_features, in_features) = (shape[0], shape[1]);
    let mut layer = cx.layer_by(maker, LayerKind::Linear);
    let read = layer.read_flattened("in", input, in_features)?;
    let written = layer.write_features("out", out_features)?;
    layer.parameter("weight", weight, &[(0, written), (1, read)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.mixes(1, BiasExactness::Everywhere);
    layer.pass(written)
}

/// Whether the channels are in another dimension than the last, which a linear layer reads.
fn mixes_positions(input: &Flow) -> bool {
    let shape = input.value().and_then(|value| value.form.shape());
    shape.is_some_and(|shape| {
        !shape.digits().is_empty() && shape.dims().last().is_some_and(|dim| !holds_channels(dim))
    })
}

/// Traces a linear layer over positions, as in MLP-Mixer. It treats each channel by itself, so no
/// dimension of its tensors follows the channels.
fn trace_over_positions(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    maker: Maker,
) -> Result<Flow> {
    let width = cx.known_width(input).unwrap_or(0);
    let shape = weight.size();
    let mut layer = cx.layer_by(maker, LayerKind::Linear);
    let channels = layer.follow_positions("channels", input, width, shape[1], shape[0])?;
    layer.parameter("weight", weight, &[])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[])?;
    }
    if bias.is_some() { layer.ungate(channels) } else { layer.pass(channels) }
}
