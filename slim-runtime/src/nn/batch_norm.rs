//! Batch norms with a public config.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{BatchNormConfig, ModuleT, Path};

use super::recorder::{batch_and_sides, report_call};
use super::synchronised::Norm;
use crate::graph::{LayerMut, NormMut};
use crate::nn::tch::batch_norm::trace_batch_norm;
use crate::numeric::{LayerOperation, LayerShape};
use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

/// A batch-normalization layer: tch's, with a public config.
#[derive(Debug)]
pub struct BatchNorm {
    /// The config that the layer was built with.
    pub config: BatchNormConfig,
    /// Running mean `[channels]`.
    pub running_mean: Tensor,
    /// Running variance `[channels]`.
    pub running_var: Tensor,
    /// Scale γ `[channels]`.
    pub ws: Option<Tensor>,
    /// Shift β `[channels]`.
    pub bs: Option<Tensor>,
    /// Number of dimensions of the input behind batch and channels.
    pub nd: usize,
    /// Whether [`deploy`](crate::deploy()) folded this batch norm into a neighbour; it then
    /// returns its input.
    folded: bool,
}

fn batch_norm<'a>(
    vs: impl Borrow<Path<'a>>,
    nd: usize,
    out_dim: i64,
    config: BatchNormConfig,
) -> BatchNorm {
    let vs = vs.borrow();
    let affine = |name, init| config.affine.then(|| vs.var(name, &[out_dim], init));
    BatchNorm {
        ws: affine("weight", config.ws_init),
        bs: affine("bias", config.bs_init),
        running_mean: vs.zeros_no_train("running_mean", &[out_dim]),
        running_var: vs.ones_no_train("running_var", &[out_dim]),
        config,
        nd,
        folded: false,
    }
}

/// Batch norm over `[N, C]` or `[N, C, L]`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn batch_norm1d<'a>(
    vs: impl Borrow<Path<'a>>,
    out_dim: i64,
    config: BatchNormConfig,
) -> BatchNorm {
    batch_norm(vs, 1, out_dim, config)
}

/// Batch norm over `[N, C, H, W]`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn batch_norm2d<'a>(
    vs: impl Borrow<Path<'a>>,
    out_dim: i64,
    config: BatchNormConfig,
) -> BatchNorm {
    batch_norm(vs, 2, out_dim, config)
}

/// Batch norm over `[N, C, D, H, W]`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn batch_norm3d<'a>(
    vs: impl Borrow<Path<'a>>,
    out_dim: i64,
    config: BatchNormConfig,
) -> BatchNorm {
    batch_norm(vs, 3, out_dim, config)
}

impl BatchNorm {
    fn as_norm(&self) -> Norm<'_> {
        Norm {
            scale: self.ws.as_ref(),
            shift: self.bs.as_ref(),
            running_mean: &self.running_mean,
            running_var: &self.running_var,
            momentum: self.config.momentum,
            eps: self.config.eps,
        }
    }
}

impl ModuleT for BatchNorm {
    /// # Panics
    /// As in tch: when the input's number of dimensions is not the layer's. Also in training mode,
    /// when [`deploy`](crate::deploy()) folded this batch norm into a neighbour, which has
    /// no batch statistics.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        if self.folded {
            assert!(
                !train,
                "this batch norm was folded by `deploy`, so the network cannot be trained; run it with `train = false`"
            );
            return xs.shallow_clone();
        }
        let dim = xs.dim();
        let fits = dim == self.nd + 2 || (self.nd == 1 && dim == 2);
        assert!(
            fits,
            "a batch norm over {} dimensions got an input of shape {:?}",
            self.nd,
            xs.size()
        );
        let over_processes = || self.as_norm().over_processes(xs);
        let ys = train.then(over_processes).flatten().unwrap_or_else(|| {
            xs.batch_norm(
                self.ws.as_ref(),
                self.bs.as_ref(),
                Some(&self.running_mean),
                Some(&self.running_var),
                train,
                self.config.momentum,
                self.config.eps,
                self.config.cudnn_enabled,
            )
        });
        report_call(&self.running_mean, [xs, &ys], || {
            let (batch, sides) = batch_and_sides(xs, dim - 2);
            (LayerShape::plain(LayerOperation::BatchNorm, batch, sides, false), None)
        });
        ys
    }
}

impl Prunable for BatchNorm {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        cx.mark_deployed(self.folded);
        let (statistics, affine) =
            ([&self.running_mean, &self.running_var], [self.ws.as_ref(), self.bs.as_ref()]);
        let numbers = (Some(self.config.momentum), Some(self.config.eps));
        trace_batch_norm(cx, &input, statistics, affine, numbers)
    }
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        if self.folded {
            visit.deployed()?;
        }
        visit.scaled_layer(self.ws.as_ref().map(|scale| ("weight", scale)));
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.layer(|| {
            let statistics = [&mut self.running_mean, &mut self.running_var];
            let (affine, eps) = ([&mut self.ws, &mut self.bs], self.config.eps);
            Some(LayerMut::Norm(NormMut {
                statistics,
                affine,
                eps,
                momentum: Some(&mut self.config.momentum),
                folded: Some(&mut self.folded),
            }))
        })
    }
}
