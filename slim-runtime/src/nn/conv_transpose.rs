//! Transposed convolutions whose number of groups follows the weight.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{ConvTransposeConfig, ConvTransposeConfigND, Module, PaddingMode, Path};

use super::recorder::{batch_and_sides, report_positions};
use crate::graph::{BiasExactness, Maker};
use crate::nn::tch::conv::{Groups, Sliding};
use crate::nn::tch::conv_transpose::trace_conv_transpose;
use crate::numeric::{LayerGroups, LayerOperation, LayerShape};
use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

/// A transposed convolution layer of any rank: tch's, with a public config and a number of groups
/// that follows the weight.
///
/// A depthwise layer (one input channel per group) loses whole groups, any other grouped layer
/// loses the same number of channels in every group.
#[derive(Debug)]
pub struct ConvTranspose<ND> {
    /// Weight `[in, out / groups, …kernel]`.
    pub ws: Tensor,
    /// Bias `[out]`.
    pub bs: Option<Tensor>,
    /// The config that the layer was built with. Slimming does not update its `groups`; see
    /// [`groups`](Self::groups).
    pub config: ConvTransposeConfigND<ND>,
    depthwise: bool,
}

/// One-dimensional transposed convolution layer.
pub type ConvTranspose1D = ConvTranspose<[i64; 1]>;
/// Two-dimensional transposed convolution layer.
pub type ConvTranspose2D = ConvTranspose<[i64; 2]>;
/// Three-dimensional transposed convolution layer.
pub type ConvTranspose3D = ConvTranspose<[i64; 3]>;

impl<ND> ConvTranspose<ND> {
    /// Current number of groups.
    pub fn groups(&self) -> i64 {
        // A depthwise layer has one group for each input channel of its weight.
        if self.depthwise { self.ws.size()[0] } else { self.config.groups }
    }
}

/// A transposed convolution layer with a kernel size for each dimension. `in_dim` and `out_dim` are
/// multiples of `config.groups`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn conv_transpose<'a, ND: AsRef<[i64]>>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksizes: ND,
    config: ConvTransposeConfigND<ND>,
) -> ConvTranspose<ND> {
    let vs = vs.borrow();
    let bs = config.bias.then(|| vs.var("bias", &[out_dim], config.bs_init));
    let shape: Vec<i64> = [in_dim, out_dim / config.groups]
        .into_iter()
        .chain(ksizes.as_ref().iter().copied())
        .collect();
    let ws = vs.var("weight", &shape, config.ws_init);
    let depthwise = config.groups > 1 && config.groups == in_dim;
    ConvTranspose { ws, bs, config, depthwise }
}

fn cubic<const N: usize>(config: ConvTransposeConfig) -> ConvTransposeConfigND<[i64; N]> {
    ConvTransposeConfigND {
        stride: [config.stride; N],
        padding: [config.padding; N],
        output_padding: [config.output_padding; N],
        dilation: [config.dilation; N],
        groups: config.groups,
        bias: config.bias,
        ws_init: config.ws_init,
        bs_init: config.bs_init,
    }
}

/// A one-dimensional transposed convolution layer.
pub fn conv_transpose1d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvTransposeConfig,
) -> ConvTranspose1D {
    conv_transpose(vs, in_dim, out_dim, [ksize], cubic(config))
}

/// A two-dimensional transposed convolution layer.
pub fn conv_transpose2d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvTransposeConfig,
) -> ConvTranspose2D {
    conv_transpose(vs, in_dim, out_dim, [ksize; 2], cubic(config))
}

/// A three-dimensional transposed convolution layer.
pub fn conv_transpose3d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvTransposeConfig,
) -> ConvTranspose3D {
    conv_transpose(vs, in_dim, out_dim, [ksize; 3], cubic(config))
}

impl<ND: AsRef<[i64]>> ConvTranspose<ND> {
    /// What the layer computes of `xs`.
    fn shape(&self, xs: &Tensor) -> LayerShape {
        let config = &self.config;
        let (batch, sides) = batch_and_sides(xs, config.stride.as_ref().len());
        LayerShape {
            kernel: self.ws.size()[2..].to_vec(),
            stride: config.stride.as_ref().to_vec(),
            padding: config.padding.as_ref().to_vec(),
            output_padding: config.output_padding.as_ref().to_vec(),
            dilation: config.dilation.as_ref().to_vec(),
            groups: match self.depthwise {
                true => LayerGroups::OfSize(self.ws.size()[1]),
                false => LayerGroups::Count(config.groups),
            },
            ..LayerShape::plain(LayerOperation::ConvTranspose, batch, sides, self.bs.is_some())
        }
    }
}

impl<ND: AsRef<[i64]> + std::fmt::Debug + Send> Module for ConvTranspose<ND> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let config = &self.config;
        let (stride, padding) = (config.stride.as_ref(), config.padding.as_ref());
        let (output_padding, dilation) = (config.output_padding.as_ref(), config.dilation.as_ref());
        let convolve = match stride.len() {
            1 => Tensor::conv_transpose1d,
            2 => Tensor::conv_transpose2d,
            _ => Tensor::conv_transpose3d,
        };
        let ys = convolve(
            xs,
            &self.ws,
            self.bs.as_ref(),
            stride,
            padding,
            output_padding,
            self.groups(),
            dilation,
        );
        report_positions(&self.ws, xs, [xs, &ys], || (self.shape(xs), None));
        ys
    }
}

impl<ND: AsRef<[i64]>> Prunable for ConvTranspose<ND> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let per_group = self.ws.size().get(1).copied().unwrap_or(1);
        let groups = if self.depthwise {
            Groups::Whole { per_group }
        } else {
            Groups::Equal { groups: self.config.groups, least: 1 }
        };
        let config = &self.config;
        let (stride, padding) = (config.stride.as_ref(), config.padding.as_ref());
        let reach = BiasExactness::of_conv_transpose(
            &self.ws,
            stride,
            padding,
            config.output_padding.as_ref(),
            config.dilation.as_ref(),
        );
        let sliding = || {
            let [stride, padding, dilation, more] =
                [&config.stride, &config.padding, &config.dilation, &config.output_padding]
                    .map(|side| side.as_ref().to_vec());
            let padding_mode = PaddingMode::Zeros;
            Some((Sliding { stride, padding, dilation, padding_mode }, more))
        };
        let tensors = (&self.ws, self.bs.as_ref());
        trace_conv_transpose(cx, &input, tensors, groups, (Maker::Slim, reach), sliding)
    }
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.scaled_layer(None);
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        let groups = self.groups();
        visit.weights(&mut self.ws, &mut self.bs, Some(groups))
    }
}
