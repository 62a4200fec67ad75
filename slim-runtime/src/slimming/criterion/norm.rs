//! The magnitude of filters.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion};
use crate::Result;

/// Sum of the absolute weights of each filter (Li et al., "Pruning Filters for Efficient ConvNets",
/// ICLR 2017).
#[derive(Debug, Clone, Copy, Default)]
pub struct L1;

/// Euclidean norm of the weights of each filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct L2;

impl Criterion for L1 {
    fn name(&self) -> String {
        "l1".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        norm(layer, 1.)
    }
}

impl Criterion for L2 {
    fn name(&self) -> String {
        "l2".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        norm(layer, 2.)
    }
}

/// Computes the norm in double precision, so that half-precision weights neither overflow nor tie.
fn norm(layer: &Candidate<'_>, p: f64) -> Result<Option<Tensor>> {
    let norm = |filters: Tensor| {
        filters.f_norm_scalaropt_dim_dtype(p, [1], false, Kind::Double).map_err(layer.error())
    };
    layer.filters()?.map(norm).transpose()
}
