//! |γ| of batch norms, times the norm of the filters in front of them.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion, Masking};
use crate::Result;

/// |γ| of a batch norm's channel, times the L2 norm of the filter that makes the channel in front
/// of it: [`filter_norms`](Candidate::filter_norms).
///
/// Neither factor says enough by itself: a filter may become smaller and a scale behind it larger
/// without any change of what the network computes (Ye et al., "Rethinking the
/// Smaller-Norm-Less-Informative Assumption in Channel Pruning of Convolution Layers", ICLR 2018).
/// The product is the norm that the filter has once the batch norm is folded into it, but for the
/// running standard deviation.
///
/// For a residual stream that a batch norm reads after the sum, the filter of each summand counts.
/// A batch norm of which no filter makes a channel, such as one that reads an input of the model,
/// is not scored.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScaledNorm;

impl Criterion for ScaledNorm {
    fn name(&self) -> String {
        "scaled_norm".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let (Some(scale), Some(norms)) = (layer.scale(), layer.filter_norms()?) else {
            return Ok(None);
        };
        let product = || {
            let scale = scale.f_detach()?.f_to_kind(Kind::Double)?.f_abs()?;
            scale.f_mul(&norms.f_to_device(scale.device())?)
        };
        product().map(Some).map_err(layer.error())
    }

    fn masking(&self) -> Masking {
        Masking::BatchNorm
    }
}
