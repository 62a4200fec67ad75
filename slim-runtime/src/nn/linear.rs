//! Linear layers whose MACs can be counted.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, LinearConfig, Module, Path};

use super::recorder::report_rows;
use crate::graph::{LayerMut, Maker, WeightsMut};
use crate::nn::tch::linear::trace_linear;
use crate::{Flow, LayerVisitor, PartVisitor, Prunable, Result, Tracer};

/// A fully connected layer: tch's, and [`Prunable::cost`] counts it.
#[derive(Debug)]
pub struct Linear {
    /// Weight `[out, in]`.
    pub ws: Tensor,
    /// Bias `[out]`.
    pub bs: Option<Tensor>,
}

/// A fully connected layer, of `[…, in_dim]` to `[…, out_dim]`.
///
/// # Panics
/// As tch's: when a variable cannot be made.
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
        report_rows(&self.ws, xs);
        xs.linear(&self.ws, self.bs.as_ref())
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
        visit.layer(|| {
            Some(LayerMut::Weights(WeightsMut {
                weight: &mut self.ws,
                bias: &mut self.bs,
                transposed: None,
                packed: None,
            }))
        })
    }
}
