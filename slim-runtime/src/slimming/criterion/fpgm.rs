//! The redundancy of filters.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion};
use crate::Result;

/// Sum of the Euclidean distances of a filter from all other filters of its layer. Filters near the
/// geometric median are replaceable by the rest and go first (He et al., "Filter Pruning via
/// Geometric Median", CVPR 2019).
#[derive(Debug, Clone, Copy, Default)]
pub struct Fpgm;

impl Criterion for Fpgm {
    fn name(&self) -> String {
        "fpgm".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let distances = |filters: Tensor| {
            // Mode 2: distances are taken term by term, without the cancellation of a matrix
            // product.
            let filters = filters.f_to_kind(Kind::Double)?.f_contiguous()?;
            Tensor::f_cdist(&filters, &filters, 2., 2)?.f_sum_dim_intlist(
                [1].as_slice(),
                false,
                Kind::Double,
            )
        };
        layer.filters()?.map(distances).transpose().map_err(layer.error())
    }
}
