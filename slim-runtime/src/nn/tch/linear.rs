use tch::Tensor;
use tch::nn::Linear;

use crate::graph::shape::holds_channels;
use crate::graph::{BiasExactness, LayerMut, Maker, WeightsMut};
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
        visit.layer(|| {
            Some(LayerMut::Weights(WeightsMut {
                weight: &mut self.ws,
                bias: &mut self.bs,
                transposed: None,
                packed: None,
            }))
        })
    }
}

/// Weight `[out, in]`, bias `[out]`. Behind a flatten, each channel is `in / channels` columns in a
/// row.
pub(crate) fn trace_linear(
    cx: &mut Tracer,
    input: &Flow,
    weight: &Tensor,
    bias: Option<&Tensor>,
    maker: Maker,
) -> Result<Flow> {
    let shape = weight.size();
    let [out_features, in_features] = shape[..] else {
        let rule = "has not the two dimensions [out, in]".to_owned();
        return Err(Error::Shape { path: cx.path(), tensor: "weight".to_owned(), shape, rule });
    };
    if mixes_positions(input) {
        return trace_over_positions(cx, input, (weight, bias), maker);
    }
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

/// Whether the last dimension, which a linear layer reads, holds no channels, and another one does.
fn mixes_positions(input: &Flow) -> bool {
    let shape = input.value().and_then(|value| value.form.shape());
    shape.is_some_and(|shape| {
        !shape.digits().is_empty() && shape.dims().last().is_some_and(|dim| !holds_channels(dim))
    })
}

/// A linear layer over positions, as in MLP-Mixer: each channel by itself, so nothing of it follows
/// the channels.
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
