//! Linear layers whose MACs are counted.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, LinearConfig, Module, Path};

use super::recorder::report_linear;
use crate::graph::Maker;
use crate::nn::tch::linear::trace_linear;
use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

/// A fully connected layer: tch's, counted by [`Prunable::cost`].
#[derive(Debug)]
pub struct Linear {
    /// Weight `[out, in]`.
    pub ws: Tensor,
    /// Bias `[out]`.
    pub bs: Option<Tensor>,
}

/// A fully connected layer from `[…, in_dim]` to `[…, out_dim]`.
///
/// # Panics
/// As in tch: when a variable cannot be created.
pub fn linear<'a>(
    vs: impl Borrow<Path<'a>>,
    in_dim: i64,
    out_dim: i64,
    config: LinearConfig,
) -> Linear {
    let vs = vs.borrow();
    let bs = config.bias.then(|| {
        let bound = 1. / (in_dim as f64).sqrt();
        vs.var(
            "bias",
            &[out_dim],
            config.bs_init.unwrap_or(Init::Uniform { lo: -bound, up: bound }),
        )
    });
    Linear { ws: vs.var("weight", &[out_dim, in_dim], config.ws_init), bs }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let ys = xs.linear(&self.ws, self.bs.as_ref());
        report_linear(&self.ws, self.bs.as_ref(), [xs, &ys]);
        ys
    }
}

impl Prunable for Linear {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        trace_linear(cx, &input, &self.ws, self.bs.as_ref(), Maker::Slim)
    }
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.scaled_layer(None);
        Ok(())
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.weights(&mut self.ws, &mut self.bs, None)
    }
}
