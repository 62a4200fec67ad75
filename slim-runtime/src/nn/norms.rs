//! Norms over sequences and images: drop-ins for tch's layer norm and group norm, and RMS norm,
//! instance norm and PReLU, which tch does not have.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{GroupNormConfig, Init, LayerNormConfig, Module, Path};

use super::tch::norms::trace_layer_norm;
use crate::graph::arguments;
use crate::{Flow, KeepReason, LayerKind, LayerVisitor, Prunable, Result, Tracer, forward};

/// Layer norm ([Ba et al., 2016](https://arxiv.org/abs/1607.06450)) over the last dimensions:
/// tch's, with a public config. Its statistics mix channels, so those in front stay.
#[derive(Debug)]
pub struct LayerNorm {
    /// The config that the layer was built with.
    pub config: LayerNormConfig,
    /// Scale γ `[…normalized shape]`.
    pub ws: Option<Tensor>,
    /// Shift β `[…normalized shape]`.
    pub bs: Option<Tensor>,
    /// The sizes of the dimensions that are normalised together.
    pub normalized_shape: Vec<i64>,
}

/// A layer norm over the last dimensions, of the sizes `normalized_shape`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn layer_norm<'a>(
    vs: impl Borrow<Path<'a>>,
    normalized_shape: Vec<i64>,
    config: LayerNormConfig,
) -> LayerNorm {
    let vs = vs.borrow();
    let value =
        |name, init| config.elementwise_affine.then(|| vs.var(name, &normalized_shape, init));
    let (ws, bs) = (value("weight", config.ws_init), value("bias", config.bs_init));
    LayerNorm { config, ws, bs, normalized_shape }
}

/// Group norm ([Wu & He, 2018](https://arxiv.org/abs/1803.08494)) over `[N, C, …]`: tch's, with a
/// public config. Each group of channels of each sample is normalised by itself.
///
/// Statistics mix the channels of a group, so whole groups are removed, and `num_groups` and
/// `num_channels` are updated. With one group, all channels stay. No γ ranks the groups: name a
/// [criterion](crate::criterion) that scores the layer in front. tch's own group norm keeps all
/// channels.
#[derive(Debug)]
pub struct GroupNorm {
    /// The config that the layer was built with.
    pub config: GroupNormConfig,
    /// Scale γ `[channels]`.
    pub ws: Option<Tensor>,
    /// Shift β `[channels]`.
    pub bs: Option<Tensor>,
    /// Number of groups, also after slimming.
    pub num_groups: i64,
    /// Number of channels, also after slimming.
    pub num_channels: i64,
}

/// A group norm over `[N, num_channels, …]` with `num_groups` groups of one size.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn group_norm<'a>(
    vs: impl Borrow<Path<'a>>,
    num_groups: i64,
    num_channels: i64,
    config: GroupNormConfig,
) -> GroupNorm {
    let vs = vs.borrow();
    let value = |name, init| config.affine.then(|| vs.var(name, &[num_channels], init));
    let (ws, bs) = (value("weight", config.ws_init), value("bias", config.bs_init));
    GroupNorm { config, ws, bs, num_groups, num_channels }
}

impl Module for LayerNorm {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.layer_norm(
            self.normalized_shape.as_slice(),
            self.ws.as_ref(),
            self.bs.as_ref(),
            self.config.eps,
            self.config.cudnn_enabled,
        )
    }
}

impl Prunable for LayerNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let parameters = [self.ws.as_ref(), self.bs.as_ref()];
        let eps = Some(self.config.eps);
        trace_layer_norm(cx, &input, &self.normalized_shape, parameters, eps)
    }
}

impl Module for GroupNorm {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.group_norm(
            self.num_groups,
            self.ws.as_ref(),
            self.bs.as_ref(),
            self.config.eps,
            self.config.cudnn_enabled,
        )
    }
}

impl Prunable for GroupNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::GroupNorm);
        let (channels, groups) =
            layer.follow_norm_groups(&input, self.num_channels, self.num_groups)?;
        if self.num_groups == 1 {
            let by = layer.path();
            layer.hold(channels, KeepReason::Mixed { by })?;
        }
        for (name, tensor) in [("weight", &self.ws), ("bias", &self.bs)] {
            if let Some(tensor) = tensor {
                layer.parameter(name, tensor, &[(0, channels)])?;
            }
        }
        layer.size("num_groups", groups)?;
        layer.size("num_channels", channels)?;
        let normed = layer.pass_whole(channels, self.bs.is_some())?;
        let (groups, ws, bs) = (self.num_groups, self.ws.as_ref(), self.bs.as_ref());
        cx.call("group_norm", arguments![&input, groups, ws, bs, self.config.eps], &normed);
        Ok(normed)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.size("num_groups", &mut self.num_groups)?;
        visit.size("num_channels", &mut self.num_channels)
    }
}

/// Root mean square norm ([Zhang & Sennrich, 2019](https://arxiv.org/abs/1910.07467)) over the last
/// dimension: `x / √(mean(x²) + ε) · γ`. Its statistic mixes channels, so those in front stay.
#[derive(Debug, Prunable)]
pub struct RmsNorm {
    /// Scale γ `[channels]`.
    pub ws: Tensor,
    /// ε, which is added to the mean.
    pub eps: f64,
}

/// An RMS norm over `[…, dim]`, whose γ starts at one. `eps` is often 1e-6.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn rms_norm<'a>(vs: impl Borrow<Path<'a>>, dim: i64, eps: f64) -> RmsNorm {
    RmsNorm { ws: vs.borrow().var("weight", &[dim], Init::Const(1.)), eps }
}

/// Instance norm ([Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022)) over `[N, C, …]`: each
/// channel of each sample is normalised over its positions, so channels go one by one. Without
/// running statistics, as PyTorch's by default.
#[derive(Debug, Prunable)]
pub struct InstanceNorm {
    /// Scale γ `[channels]`.
    pub ws: Option<Tensor>,
    /// Shift β `[channels]`.
    pub bs: Option<Tensor>,
    /// ε, which is added to the variance.
    pub eps: f64,
}

/// An instance norm over `[N, dim, …]`, with γ and β if `affine`; ε is 1e-5.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn instance_norm<'a>(vs: impl Borrow<Path<'a>>, dim: i64, affine: bool) -> InstanceNorm {
    let vs = vs.borrow();
    let value = |name, start| affine.then(|| vs.var(name, &[dim], Init::Const(start)));
    InstanceNorm { ws: value("weight", 1.), bs: value("bias", 0.), eps: 1e-5 }
}

/// Parametric ReLU ([He et al., 2015](https://arxiv.org/abs/1502.01852)) over `[N, C, …]`: negative
/// values are multiplied by a slope, one for each channel or one for all.
#[derive(Debug, Prunable)]
pub struct PRelu {
    /// Slopes `[channels]`, or `[1]`.
    pub ws: Tensor,
}

/// A parametric ReLU of `slopes` slopes, the number of channels or 1, which start at 0.25.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn prelu<'a>(vs: impl Borrow<Path<'a>>, slopes: i64) -> PRelu {
    PRelu { ws: vs.borrow().var("weight", &[slopes], Init::Const(0.25)) }
}

#[forward]
impl Module for RmsNorm {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let mean = xs.square().mean_dim([-1].as_slice(), true, None);
        xs * (mean + self.eps).rsqrt() * &self.ws
    }
}

#[forward]
impl Module for InstanceNorm {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let (ws, bs) = (self.ws.as_ref(), self.bs.as_ref());
        xs.instance_norm(ws, bs, None, None, true, 0., self.eps, false)
    }
}

#[forward]
impl Module for PRelu {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.prelu(&self.ws)
    }
}
