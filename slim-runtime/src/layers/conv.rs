//! Convolutions: weight `[out, in / groups, …]`, bias `[out]`.

use tch::Tensor;
use tch::nn::Conv;

use crate::{Error, Flow, LayerKind, Prunable, Result, Tracer};

/// What is known of a convolution's groups.
#[derive(Clone, Copy)]
pub(crate) enum Groups {
    /// Their number is private and stays what it is.
    Private,
    /// Their number stays what it is: all lose the same number of channels.
    Equal { groups: i64 },
    /// Whole groups go; each has this many output channels.
    Whole { per_group: i64 },
}

impl<ND> Prunable for Conv<ND> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_conv(cx, &input, &self.ws, self.bs.as_ref(), Groups::Private)
    }
}

pub(crate) fn trace_conv(cx: &mut Tracer, input: &Flow, weight: &Tensor, bias: Option<&Tensor>, groups: Groups) -> Result<Flow> {
    let shape = weight.size();
    let [outputs, group_inputs, ..] = shape[..] else {
        let rule = "has fewer than the two dimensions [out, in, …]".to_owned();
        return Err(Error::Shape { path: cx.path(), tensor: "weight".to_owned(), shape, rule });
    };
    let groups = match groups {
        Groups::Whole { per_group } => return trace_whole(cx, input, weight, bias, per_group, group_inputs),
        Groups::Equal { groups } => groups,
        Groups::Private => private_groups(cx, input, group_inputs)?,
    };
    let mut layer = cx.layer(LayerKind::Conv);
    let read = layer.read_grouped("in", input, groups * group_inputs, groups)?;
    let written = layer.write_grouped("out", outputs, groups)?;
    layer.parameter("weight", weight, &[(0, written), (1, read)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    Ok(layer.pass(written))
}

/// Channels pass through their group, and what arrives as zero leaves as zero unless a bias is added.
fn trace_whole(cx: &mut Tracer, input: &Flow, weight: &Tensor, bias: Option<&Tensor>, per_group: i64, group_inputs: i64) -> Result<Flow> {
    let groups = weight.size()[0] / per_group;
    let mut layer = cx.layer(LayerKind::Conv);
    let written = layer.follow_groups(input, groups * group_inputs, groups, per_group)?.1;
    layer.parameter("weight", weight, &[(0, written)])?;
    let Some(bias) = bias else { return Ok(layer.pass(written)) };
    layer.parameter("bias", bias, &[(0, written)])?;
    Ok(layer.ungate(written))
}

/// tch does not show a convolution's groups, but how many inputs there are for each.
fn private_groups(cx: &Tracer, input: &Flow, group_inputs: i64) -> Result<i64> {
    let Some(width) = cx.known_width(input) else { return Ok(1) };
    let groups = if group_inputs > 0 && width % group_inputs == 0 { width / group_inputs } else { 1 };
    match (groups, group_inputs) {
        (2.., 1) => Err(Error::PrivateGroups { path: cx.path() }),
        _ => Ok(groups),
    }
}
