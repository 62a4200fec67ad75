//! Magnitude, by what of the layer is at least as large.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion};
use crate::Result;

/// Layer-adaptive magnitude: the squared norm of a filter, divided by the sum of the squared norms
/// of those filters of its layer that are not smaller, `‖w_u‖² / Σ_{v: ‖w_v‖ ≥ ‖w_u‖} ‖w_v‖²`
/// (Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, equation 5,
/// for filters in place of weights).
///
/// Scores of layers of any size compare, since the largest filter of each layer has the score 1: no
/// [`Normalisation`](super::Normalisation) is needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lamp;

impl Criterion for Lamp {
    fn name(&self) -> String {
        "lamp".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let scores = |filters: Tensor| {
            let squares = filters.f_to_kind(Kind::Double)?.f_square()?;
            let squares = squares.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?;
            let (sorted, _) = squares.f_sort(0, false)?;
            let sums = sorted.f_flip([0])?.f_cumsum(0, Kind::Double)?.f_flip([0])?;
            // The first of equal filters, so that each is divided by all of them.
            let firsts = squares.f_searchsorted::<Tensor>(&sorted, false, false, "left", None)?;
            // A layer of zeros has nothing to tell its filters apart.
            squares.f_div(&sums.f_index_select(0, &firsts)?)?.f_nan_to_num(0., None, None)
        };
        layer.filters()?.map(scores).transpose().map_err(layer.error())
    }
}
