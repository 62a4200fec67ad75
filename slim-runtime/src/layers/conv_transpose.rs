//! Transposed convolutions: weight `[in, out / groups, …]`, bias `[out]`.

use tch::Tensor;
use tch::nn::{ConvTranspose1D, ConvTranspose2D, ConvTranspose3D};

use super::conv::{Groups, tch_groups};
use crate::tracer::Maker;
use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

macro_rules! tch_layers {
    ($($layer:ty),+) => {
        $(impl Prunable for $layer {
            fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
                let groups = tch_groups(cx, self)?;
                // One input channel in each.
                if groups > 1 && self.ws.size().first() == Some(&groups) {
                    return Err(Error::PrivateGroups { path: cx.path() });
                }
                let least = if groups > 1 { 2 } else { 1 };
                let groups = Groups::Equal { groups, least };
                trace_conv_transpose(cx, &input, &self.ws, self.bs.as_ref(), groups, Maker::Tch)
            }
        })+
    };
}

tch_layers!(ConvTranspose1D, ConvTranspose2D, ConvTranspose3D);

pub(crate) fn trace_conv_transpose(
    cx: &mut Tracer,
    input: &Flow,
    weight: &Tensor,
    bias: Option<&Tensor>,
    groups: Groups,
    maker: Maker,
) -> Result<Flow> {
    let shape = weight.size();
    let [inputs, group_outputs, ..] = shape[..] else {
        let rule = "has fewer than the two dimensions [in, out / groups, …]".to_owned();
        return Err(Error::Shape { path: cx.path(), tensor: "weight".to_owned(), shape, rule });
    };
    let (groups, least) = match groups {
        Groups::Whole { per_group } => return trace_depthwise(cx, input, weight, bias, per_group),
        Groups::Equal { groups, least } => (groups, least),
    };
    let mut layer = cx.layer_by(maker, LayerKind::ConvTranspose);
    let read = layer.read("in", input, inputs)?;
    layer.tie_groups(read, groups)?;
    layer.at_least(read, least * usize::try_from(groups).unwrap_or(1))?;
    let written = layer.write_grouped("out", groups * group_outputs, groups)?;
    let of_a_group = if groups == 1 { written } else { layer.part_of("out of a group", written, groups)? };
    layer.parameter("weight", weight, &[(0, read), (1, of_a_group)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.pass(written)
}

/// Each input channel makes `per_group` outputs of its own. Only the drop-in has such groups.
fn trace_depthwise(cx: &mut Tracer, input: &Flow, weight: &Tensor, bias: Option<&Tensor>, per_group: i64) -> Result<Flow> {
    let groups = weight.size()[0];
    let mut layer = cx.layer_by(Maker::Slim, LayerKind::ConvTranspose);
    let (read, written) = layer.follow_groups(input, groups, groups, per_group)?;
    layer.parameter("weight", weight, &[(0, read)])?;
    let Some(bias) = bias else { return layer.pass(written) };
    layer.parameter("bias", bias, &[(0, written)])?;
    layer.shift(written)
}
