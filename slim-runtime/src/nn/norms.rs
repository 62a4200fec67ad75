//! Norms and activations with parameters that tch does not have: RMS norm, instance norm, PReLU.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, Module, Path};

use crate::{Prunable, forward};

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
