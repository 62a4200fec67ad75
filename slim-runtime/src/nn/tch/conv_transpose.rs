//! `Prunable` for tch's transposed convolutions: weight `[in, out / groups, …]`, bias `[out]`.

use tch::Tensor;
use tch::nn::{ConvTranspose1D, ConvTranspose2D, ConvTranspose3D, PaddingMode};

use super::conv::{Groups, Sliding, convolution, printed, printed_list, tch_groups};
use crate::error::WiringError;
use crate::graph::{Argument, BiasExactness, LayerMut, Maker, WeightsMut};
use crate::{
    Error, Flow, LayerKind, LayerTracer, LayerVisitor, PartVisitor, Prunable, Result, Tracer,
};

macro_rules! tch_layers {
    ($($layer:ty),+) => {
        $(impl Prunable for $layer {
            fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
                let groups = tch_groups(cx, self)?;
                // One input channel per group: a depthwise layer.
                if groups > 1 && self.ws.size().first() == Some(&groups) {
                    return Err(Error::Wiring(WiringError::PrivateGroups { path: cx.path() }));
                }
                let least = if groups > 1 { 2 } else { 1 };
                let groups = Groups::Equal { groups, least };
                let sliding = || {
                    let [stride, padding, dilation] =
                        ["stride", "padding", "dilation"].map(|field| printed_list(self, field));
                    let padding_mode = PaddingMode::Zeros;
                    let (stride, padding, dilation) = (stride?, padding?, dilation?);
                    let sliding = Sliding { stride, padding, dilation, padding_mode };
                    Some((sliding, printed_list(self, "output_padding")?))
                };
                let reach = || {
                    let [stride, padding, output_padding, dilation] =
                        ["stride", "padding", "output_padding", "dilation"].map(|field| printed_list(self, field));
                    Some(BiasExactness::of_conv_transpose(&self.ws, &stride?, &padding?, &output_padding?, &dilation?))
                };
                let reach = reach().unwrap_or(BiasExactness::Nowhere);
                trace_conv_transpose(
                    cx,
                    &input,
                    (&self.ws, self.bs.as_ref()),
                    groups,
                    (Maker::Tch, reach),
                    sliding,
                )
            }

            fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
                visit.scaled_layer(None);
                Ok(())
            }

            fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
                visit.layer(|| {
                    let transposed = Some(printed(self, "groups").parse().ok()?);
                    Some(LayerMut::Weights(WeightsMut { weight: &mut self.ws, bias: &mut self.bs, transposed, packed: None }))
                })
            }
        })+
    };
}

tch_layers!(ConvTranspose1D, ConvTranspose2D, ConvTranspose3D);

impl BiasExactness {
    /// Where a transposed convolution maps a constant image to a constant. With a stride of 1 it is
    /// a convolution with zero padding of `dilation · (kernel − 1) − padding`; with another stride,
    /// neighbouring output positions sum different kernel values.
    pub(crate) fn of_conv_transpose(
        weight: &Tensor,
        stride: &[i64],
        padding: &[i64],
        output_padding: &[i64],
        dilation: &[i64],
    ) -> Self {
        if stride.iter().any(|&stride| stride != 1) {
            return BiasExactness::Nowhere;
        }
        let kernel = weight.size().into_iter().skip(2);
        let covered =
            kernel.zip(padding).zip(dilation).zip(output_padding).all(
                |(((side, &padding), &dilation), &more)| padding >= dilation * (side - 1) + more,
            );
        if covered { BiasExactness::Everywhere } else { BiasExactness::Interior }
    }
}

pub(crate) fn trace_conv_transpose(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    groups: Groups,
    (maker, reach): (Maker, BiasExactness),
    sliding: impl Fn() -> Option<(Sliding, Vec<i64>)>,
) -> Result<Flow> {
    let count = match groups {
        Groups::Equal { groups, .. } => groups,
        Groups::Whole { .. } => weight.size().first().copied().unwrap_or(1),
    };
    let given = trace_slid(cx, input, (weight, bias), groups, (maker, reach), &sliding)?;
    let arguments = || {
        let (sliding, more) = sliding().unzip();
        let mut given = convolution(input, (weight, bias), sliding, count);
        given.extend(more.as_ref().map(Argument::from));
        given
    };
    cx.call("conv_transpose", arguments, &given);
    Ok(given)
}

fn trace_slid(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    groups: Groups,
    (maker, reach): (Maker, BiasExactness),
    sliding: impl Fn() -> Option<(Sliding, Vec<i64>)>,
) -> Result<Flow> {
    let shape = weight.size();
    let [inputs, group_outputs, ..] = shape[..] else {
        let rule = "has fewer than the two dimensions [in, out / groups, …]".to_owned();
        return Err(Error::Wiring(WiringError::Shape {
            path: cx.path(),
            tensor: "weight".to_owned(),
            shape,
            rule,
        }));
    };
    let (groups, least) = match groups {
        Groups::Whole { per_group } => {
            return trace_depthwise(cx, input, (weight, bias), per_group, sliding);
        }
        Groups::Equal { groups, least } => (groups, least),
    };
    let mut layer = cx.layer_by(maker, LayerKind::ConvTranspose);
    let read = layer.read("in", input, inputs)?;
    layer.tie_groups(read, groups)?;
    layer.at_least(read, least * usize::try_from(groups).unwrap_or(1))?;
    let written = layer.write_grouped("out", groups * group_outputs, groups)?;
    let of_a_group =
        if groups == 1 { written } else { layer.part_of("out of a group", written, groups)? };
    resize(&mut layer, weight, sliding)?;
    layer.parameter("weight", weight, &[(0, read), (1, of_a_group)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.mixes(groups, reach);
    layer.pass(written)
}

/// Traces a depthwise transposed convolution: each input channel makes `per_group` output channels.
/// Only the drop-in layer has such groups.
fn trace_depthwise(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    per_group: i64,
    sliding: impl Fn() -> Option<(Sliding, Vec<i64>)>,
) -> Result<Flow> {
    let groups = weight.size()[0];
    let mut layer = cx.layer_by(Maker::Slim, LayerKind::ConvTranspose);
    let (read, written) = layer.follow_groups(input, groups, groups, per_group)?;
    resize(&mut layer, weight, sliding)?;
    layer.parameter("weight", weight, &[(0, read)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.pass_whole(written, bias.is_some())
}

/// Sets the sizes of the layer's output: the positions that the moving kernel covers. `sliding`
/// also returns the output padding; if it returns `None`, the input's sizes stay.
fn resize(
    layer: &mut LayerTracer,
    weight: &Tensor,
    sliding: impl Fn() -> Option<(Sliding, Vec<i64>)>,
) -> Result<()> {
    let shape = weight.size();
    layer.expect_rank(shape.len())?;
    if !layer.knows_dimensions() {
        return Ok(());
    }
    layer.count_uses();
    let Some((Sliding { stride, padding, dilation, .. }, more)) = sliding() else { return Ok(()) };
    layer.resize(|side, size| {
        let kernel = dilation.get(side)? * (shape.get(side + 2)? - 1);
        Some((size - 1) * stride.get(side)? - 2 * padding.get(side)? + kernel + more.get(side)? + 1)
    })
}
