//! `Prunable` for tch's convolutions: weight `[out, in / groups, …]`, bias `[out]`.

use std::fmt::Debug;

use tch::Tensor;
use tch::nn::{Conv, PaddingMode};

use crate::error::WiringError;
use crate::graph::shape::slid;
use crate::graph::{Argument, BiasExactness, Maker, arguments};
use crate::{
    Error, Flow, LayerKind, LayerTracer, LayerVisitor, PartVisitor, Prunable, Result, Tracer,
};

/// How a kernel moves over an image: one value for each dimension of the kernel.
pub(crate) struct Sliding {
    pub(crate) stride: Vec<i64>,
    pub(crate) padding: Vec<i64>,
    pub(crate) dilation: Vec<i64>,
    /// What the border is made of.
    pub(crate) padding_mode: PaddingMode,
}

impl Sliding {
    /// Sets the sizes of the layer's output: the number of kernel placements in each dimension. If
    /// `sliding` returns `None`, the input's sizes stay.
    pub(crate) fn resize(
        layer: &mut LayerTracer,
        weight: &Tensor,
        sliding: impl Fn() -> Option<Sliding>,
    ) -> Result<()> {
        let shape = weight.size();
        layer.expect_rank(shape.len())?;
        if !layer.knows_dimensions() {
            return Ok(());
        }
        let Some(Sliding { stride, padding, dilation, .. }) = sliding() else { return Ok(()) };
        layer.resize(|side, size| {
            let window = [
                *shape.get(side + 2)?,
                *stride.get(side)?,
                *padding.get(side)?,
                *dilation.get(side)?,
            ];
            slid(size, window, false)
        })
    }
}

/// How a convolution's groups shrink.
#[derive(Clone, Copy)]
pub(crate) enum Groups {
    /// The number of groups stays: all groups lose the same number of channels, and each keeps at
    /// least `least` inputs.
    Equal { groups: i64, least: usize },
    /// Whole groups are removed; each has `per_group` output channels.
    Whole { per_group: i64 },
}

/// The number of groups of a tch layer, read from its `Debug` output, since tch keeps the number
/// private. A wrong number would silently remove the wrong channels.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) when the number is not printed.
pub(crate) fn tch_groups(cx: &Tracer, layer: &impl Debug) -> Result<i64> {
    printed(layer, "groups").parse().map_err(|_| {
        cx.layer_error(
            "tch does not say how many groups it has; build it with `slim_runtime::nn`".to_owned(),
        )
    })
}

/// The value of a field in a layer's `Debug` output: `2`, or `1, 1` for `[1, 1]`. Empty when the
/// field is not printed.
pub(super) fn printed(layer: &impl Debug, field: &str) -> String {
    let printed = format!("{layer:?}");
    let Some((_, value)) = printed.split_once(&format!(" {field}: ")) else { return String::new() };
    let (list, end) = value
        .strip_prefix('[')
        .map_or((value, [',', ' ', '}'].as_slice()), |list| (list, [']'].as_slice()));
    list.split(end).next().unwrap_or_default().to_owned()
}

/// The numbers of a list in a layer's `Debug` output, one for each dimension of its kernel.
pub(super) fn printed_list(layer: &impl Debug, field: &str) -> Option<Vec<i64>> {
    printed(layer, field).split(", ").map(|number| number.parse().ok()).collect()
}

impl BiasExactness {
    /// Where a convolution maps a constant image to a constant. Zero padding differs from the
    /// constant, so the border is not exact; reflected, replicated or circular padding repeats the
    /// constant.
    pub(crate) fn of_conv(padding: Option<&[i64]>, zeros: bool) -> Self {
        let unpadded = padding.is_some_and(|padding| padding.iter().all(|&side| side == 0));
        if unpadded || !zeros { BiasExactness::Everywhere } else { BiasExactness::Interior }
    }
}

impl<ND: Debug> Prunable for Conv<ND> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let groups = tch_groups(cx, self)?;
        if groups > 1 && self.ws.size().get(1) == Some(&1) {
            return Err(Error::Wiring(WiringError::PrivateGroups { path: cx.path() }));
        }
        // With one channel left per group, a later trace would take the layer for a depthwise one.
        let least = if groups > 1 { 2 } else { 1 };
        let zeros = printed(self, "padding_mode") == "Zeros";
        let reach = BiasExactness::of_conv(printed_list(self, "padding").as_deref(), zeros);
        let sliding = || {
            let [stride, padding, dilation] =
                ["stride", "padding", "dilation"].map(|field| printed_list(self, field));
            let (padding, padding_mode) = (padding?, padding_mode(&printed(self, "padding_mode"))?);
            // tch 0.24 pads unequal sides by a border in an order of its own: `[1, 2]` as 3 and 3.
            let is_equal = padding.windows(2).all(|pair| pair[0] == pair[1]);
            let is_known = is_equal || matches!(padding_mode, PaddingMode::Zeros);
            let sliding = Sliding { stride: stride?, padding, dilation: dilation?, padding_mode };
            is_known.then_some(sliding)
        };
        let groups = Groups::Equal { groups, least };
        let tensors = (&self.ws, self.bs.as_ref());
        trace_conv(cx, &input, tensors, groups, (Maker::Tch, reach), sliding)
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.scaled_layer(None);
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.weights(&mut self.ws, &mut self.bs, None)
    }
}

pub(crate) fn trace_conv(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    groups: Groups,
    (maker, reach): (Maker, BiasExactness),
    sliding: impl Fn() -> Option<Sliding>,
) -> Result<Flow> {
    let count = match groups {
        Groups::Equal { groups, .. } => groups,
        Groups::Whole { per_group } => weight.size().first().map_or(1, |rows| rows / per_group),
    };
    let given = trace_slid(cx, input, (weight, bias), groups, (maker, reach), &sliding)?;
    cx.call("conv", || convolution(input, (weight, bias), sliding(), count), &given);
    Ok(given)
}

/// The arguments of a convolution. Without `sliding`, an export refuses the call.
pub(super) fn convolution(
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    sliding: Option<Sliding>,
    groups: i64,
) -> Vec<Argument> {
    let mut given = arguments![input, weight, bias, groups]();
    if let Some(Sliding { stride, padding, dilation, padding_mode }) = sliding {
        let mode = match padding_mode {
            PaddingMode::Zeros => "constant",
            PaddingMode::Reflect => "reflect",
            PaddingMode::Replicate => "replicate",
            PaddingMode::Circular => "circular",
        };
        given.extend(arguments![&stride, &padding, &dilation, mode]());
    }
    given
}

/// The padding mode that a tch layer prints.
fn padding_mode(printed: &str) -> Option<PaddingMode> {
    Some(match printed {
        "Zeros" => PaddingMode::Zeros,
        "Reflect" => PaddingMode::Reflect,
        "Replicate" => PaddingMode::Replicate,
        "Circular" => PaddingMode::Circular,
        _ => return None,
    })
}

fn trace_slid(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    groups: Groups,
    (maker, reach): (Maker, BiasExactness),
    sliding: impl Fn() -> Option<Sliding>,
) -> Result<Flow> {
    let shape = weight.size();
    let [outputs, group_inputs, ..] = shape[..] else {
        let rule = "has fewer than the two dimensions [out, in, …]".to_owned();
        return Err(Error::Wiring(WiringError::Shape {
            path: cx.path(),
            tensor: "weight".to_owned(),
            shape,
            rule,
        }));
    };
    let (groups, least) = match groups {
        Groups::Whole { per_group } => {
            let of_a_group = (per_group, group_inputs);
            return trace_whole(cx, input, (weight, bias), of_a_group, sliding);
        }
        Groups::Equal { groups, least } => (groups, least),
    };
    let mut layer = cx.layer_by(maker, LayerKind::Conv);
    let read = layer.read_grouped("in", input, groups * group_inputs, groups)?;
    layer.at_least(read, least)?;
    let written = layer.write_grouped("out", outputs, groups)?;
    Sliding::resize(&mut layer, weight, sliding)?;
    layer.parameter("weight", weight, &[(0, written), (1, read)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.mixes(groups, reach);
    layer.pass(written)
}

/// Traces a convolution that loses whole groups. An output channel is zero where all inputs of its
/// group are, unless a bias is added. Only the drop-in layer has such groups.
fn trace_whole(
    cx: &mut Tracer,
    input: &Flow,
    (weight, bias): (&Tensor, Option<&Tensor>),
    (per_group, group_inputs): (i64, i64),
    sliding: impl Fn() -> Option<Sliding>,
) -> Result<Flow> {
    let groups = weight.size()[0] / per_group;
    let mut layer = cx.layer_by(Maker::Slim, LayerKind::Conv);
    let written = layer.follow_groups(input, groups * group_inputs, groups, per_group)?.1;
    Sliding::resize(&mut layer, weight, sliding)?;
    layer.parameter("weight", weight, &[(0, written)])?;
    if let Some(bias) = bias {
        layer.parameter("bias", bias, &[(0, written)])?;
    }
    layer.pass_whole(written, bias.is_some())
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use tch::nn::{self, VarStore};

    use super::*;

    fn groups(layer: &impl Debug) -> Option<i64> {
        tch_groups(&Tracer::default(), layer).ok()
    }

    #[test]
    fn tchs_layers_print_their_groups() {
        let vs = VarStore::new(Device::Cpu);
        for expected in [1, 2, 12] {
            let p = vs.root() / expected;
            let config = nn::ConvConfig { groups: expected, ..Default::default() };
            assert_eq!(groups(&nn::conv1d(&p / 1, 24, 24, 1, config)), Some(expected));
            assert_eq!(groups(&nn::conv2d(&p / 2, 24, 24, 1, config)), Some(expected));
            assert_eq!(groups(&nn::conv3d(&p / 3, 24, 24, 1, config)), Some(expected));
            let config = nn::ConvTransposeConfig { groups: expected, ..Default::default() };
            assert_eq!(groups(&nn::conv_transpose1d(&p / 4, 24, 24, 1, config)), Some(expected));
            assert_eq!(groups(&nn::conv_transpose2d(&p / 5, 24, 24, 1, config)), Some(expected));
            assert_eq!(groups(&nn::conv_transpose3d(&p / 6, 24, 24, 1, config)), Some(expected));
        }
        assert_eq!(groups(&"no layer"), None);
    }
}
