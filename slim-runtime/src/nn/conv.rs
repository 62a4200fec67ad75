//! Convolutions whose number of groups follows the weight.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{ConvConfig, ConvConfigND, Module, PaddingMode, Path};

use super::recorder::{batch_and_sides, report_positions};
use crate::graph::{BiasExactness, LayerMut, Maker, WeightsMut};
use crate::nn::tch::conv::{Groups, Sliding, trace_conv};
use crate::numeric::packed::{Geometry, Packed};
use crate::numeric::{LayerGroups, LayerOperation, LayerShape};
use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

/// A convolution layer of any rank: tch's, with a public config and a number of groups that follows
/// the weight.
///
/// When channels are removed, a depthwise convolution (one input channel per group) loses whole
/// groups, and any other grouped convolution loses the same number of channels in every group, or
/// whole groups with [`whole_groups`](Self::whole_groups).
#[derive(Debug)]
pub struct Conv<ND> {
    /// Weight `[out, in / groups, …kernel]`.
    pub ws: Tensor,
    /// Bias `[out]`.
    pub bs: Option<Tensor>,
    /// The config that the layer was built with. Slimming does not update its `groups`; see
    /// [`groups`](Self::groups).
    pub config: ConvConfigND<ND>,
    /// Output channels per group, if whole groups are removed.
    per_group: Option<i64>,
    /// The packed weight that a deployed layer computes with, if packing is faster.
    packed: Option<Packed>,
}

/// One-dimensional convolution layer.
pub type Conv1D = Conv<[i64; 1]>;
/// Two-dimensional convolution layer.
pub type Conv2D = Conv<[i64; 2]>;
/// Three-dimensional convolution layer.
pub type Conv3D = Conv<[i64; 3]>;

impl<ND> Conv<ND> {
    /// Current number of groups.
    pub fn groups(&self) -> i64 {
        self.per_group.map_or(self.config.groups, |per_group| self.ws.size()[0] / per_group)
    }

    /// Makes slimming remove whole groups, instead of the same number of channels in each group.
    #[must_use]
    pub fn whole_groups(mut self) -> Self {
        if self.config.groups > 1 {
            self.per_group = Some(self.ws.size()[0] / self.config.groups);
        }
        self
    }
}

/// A convolution layer with a kernel size for each dimension. `in_dim` and `out_dim` are multiples
/// of `config.groups`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn conv<'a, ND: AsRef<[i64]>>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksizes: ND,
    config: ConvConfigND<ND>,
) -> Conv<ND> {
    let vs = vs.borrow();
    let bs = config.bias.then(|| vs.var("bias", &[out_dim], config.bs_init));
    let shape: Vec<i64> = [out_dim, in_dim / config.groups]
        .into_iter()
        .chain(ksizes.as_ref().iter().copied())
        .collect();
    let ws = vs.var("weight", &shape, config.ws_init);
    let depthwise = config.groups > 1 && config.groups == in_dim;
    let per_group = depthwise.then(|| out_dim / in_dim);
    Conv { ws, bs, config, per_group, packed: None }
}

fn cubic<const N: usize>(config: ConvConfig) -> ConvConfigND<[i64; N]> {
    ConvConfigND {
        stride: [config.stride; N],
        padding: [config.padding; N],
        dilation: [config.dilation; N],
        groups: config.groups,
        bias: config.bias,
        ws_init: config.ws_init,
        bs_init: config.bs_init,
        padding_mode: config.padding_mode,
    }
}

/// A one-dimensional convolution layer.
pub fn conv1d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvConfig,
) -> Conv1D {
    conv(vs, in_dim, out_dim, [ksize], cubic(config))
}

/// A two-dimensional convolution layer.
pub fn conv2d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvConfig,
) -> Conv2D {
    conv(vs, in_dim, out_dim, [ksize; 2], cubic(config))
}

/// A three-dimensional convolution layer.
pub fn conv3d<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    ksize: i64,
    config: ConvConfig,
) -> Conv3D {
    conv(vs, in_dim, out_dim, [ksize; 3], cubic(config))
}

impl<ND: AsRef<[i64]>> Conv<ND> {
    /// Stride, padding, dilation and groups, if oneDNN supports them with a packed weight: two
    /// dimensions, padded with zeros.
    fn geometry(&self) -> Option<Geometry> {
        let config = &self.config;
        let sides = |sides: &ND| <[i64; 2]>::try_from(sides.as_ref()).ok();
        let (stride, padding, dilation) =
            (sides(&config.stride)?, sides(&config.padding)?, sides(&config.dilation)?);
        matches!(config.padding_mode, PaddingMode::Zeros).then(|| Geometry {
            stride,
            padding,
            dilation,
            groups: self.groups(),
        })
    }

    fn sliding(&self) -> Option<Sliding> {
        let config = &self.config;
        let [stride, padding, dilation] =
            [&config.stride, &config.padding, &config.dilation].map(|side| side.as_ref().to_vec());
        Some(Sliding { stride, padding, dilation, padding_mode: config.padding_mode })
    }

    /// What the layer computes of `xs`. A border that is not of zeros counts as part of the input.
    fn shape(&self, xs: &Tensor) -> LayerShape {
        let config = &self.config;
        let (batch, mut sides) = batch_and_sides(xs, config.stride.as_ref().len());
        let mut padding = config.padding.as_ref().to_vec();
        if !matches!(config.padding_mode, PaddingMode::Zeros) {
            sides.iter_mut().zip(&mut padding).for_each(|(side, border)| {
                *side += 2 * std::mem::take(border);
            });
        }
        LayerShape {
            kernel: self.ws.size()[2..].to_vec(),
            stride: config.stride.as_ref().to_vec(),
            padding,
            dilation: config.dilation.as_ref().to_vec(),
            groups: match self.per_group {
                Some(per_group) => LayerGroups::OfSize(per_group),
                None => LayerGroups::Count(config.groups),
            },
            ..LayerShape::plain(LayerOperation::Conv, batch, sides, self.bs.is_some())
        }
    }

    fn convolve_packed(&self, xs: &Tensor) -> Option<Tensor> {
        self.packed.as_ref()?.convolve(xs, self.geometry()?)
    }

    fn convolve(&self, xs: &Tensor) -> Tensor {
        let padding = self.config.padding.as_ref();
        let (xs, padding) = match self.config.padding_mode {
            PaddingMode::Zeros => (xs.shallow_clone(), padding.to_vec()),
            mode => {
                let reversed: Vec<i64> =
                    padding.iter().rev().flat_map(|&side| [side, side]).collect();
                (mode.pad(xs, &reversed), vec![0; padding.len()])
            }
        };
        let (stride, dilation) = (self.config.stride.as_ref(), self.config.dilation.as_ref());
        let convolve = match stride.len() {
            1 => Tensor::conv1d,
            2 => Tensor::conv2d,
            _ => Tensor::conv3d,
        };
        convolve(
            &xs,
            &self.ws,
            self.bs.as_ref(),
            stride,
            padding.as_slice(),
            dilation,
            self.groups(),
        )
    }
}

impl<ND: AsRef<[i64]> + std::fmt::Debug + Send> Module for Conv<ND> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let ys = self.convolve_packed(xs).unwrap_or_else(|| self.convolve(xs));
        report_positions(&self.ws, &ys, [xs, &ys], || (self.shape(xs), self.sliding()));
        ys
    }
}

impl<ND: AsRef<[i64]>> Prunable for Conv<ND> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.mark_deployed(self.packed.is_some());
        let groups = match self.per_group {
            Some(per_group) => Groups::Whole { per_group },
            None => Groups::Equal { groups: self.config.groups, least: 1 },
        };
        let zeros = matches!(self.config.padding_mode, PaddingMode::Zeros);
        let reach = BiasExactness::of_conv(Some(self.config.padding.as_ref()), zeros);
        let tensors = (&self.ws, self.bs.as_ref());
        trace_conv(cx, &input, tensors, groups, (Maker::Slim, reach), || self.sliding())
    }
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        if self.packed.is_some() {
            visit.deployed()?;
        }
        visit.scaled_layer(None);
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.layer(|| {
            let geometry = self.geometry();
            let packed = geometry.map(|geometry| (&mut self.packed, geometry));
            Some(LayerMut::Weights(WeightsMut {
                weight: &mut self.ws,
                bias: &mut self.bs,
                transposed: None,
                packed,
            }))
        })
    }
}
