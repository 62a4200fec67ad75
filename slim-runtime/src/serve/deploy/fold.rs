//! Folding: computes a batch norm as a part of the layer in front of it.
//!
//! `W' = W · γ / √(σ² + ε)` and `b' = β + (b − μ) · γ / √(σ² + ε)`.

use tch::{Device, Kind, TchError, Tensor};

use super::form::{Norm, Weights};
use crate::fault;

/// The layer with the batch norm folded into it, computed in double precision.
///
/// # Errors
/// Those of libtorch.
pub(super) fn folded(
    layer: &Weights,
    transposed: Option<i64>,
    norm: &Norm,
    eps: f64,
) -> Result<Weights, TchError> {
    fault::point()?;
    let _no_grad = tch::no_grad_guard();
    let [mean, var] = &norm.statistics;
    let scale = double(var)?.f_add_scalar(eps)?.f_rsqrt()?;
    let [gamma, beta] = &norm.affine;
    let scale = gamma
        .as_ref()
        .map_or_else(|| Ok(scale.shallow_clone()), |gamma| scale.f_mul(&double(gamma)?))?;
    let mean = double(mean)?;
    // The layer's bias, relative to the running mean.
    let shift =
        layer.bias.as_ref().map_or_else(|| mean.f_neg(), |bias| double(bias)?.f_sub(&mean))?;
    let bias = shift.f_mul(&scale)?;
    let bias = beta
        .as_ref()
        .map_or_else(|| Ok(bias.shallow_clone()), |beta| bias.f_add(&double(beta)?))?;

    let weight = double(&layer.weight)?;
    let scaled = match transposed {
        None => weight.f_mul(&scale.f_view(by_output(&weight).as_slice())?)?,
        // `[in, out / groups, …]`: each group of inputs has its own outputs.
        Some(groups) => {
            let size = weight.size();
            let by_group = weight.f_reshape([groups, size[0] / groups, size[1], -1])?;
            by_group.f_mul(&scale.f_view([groups, 1, size[1], 1])?)?.f_reshape(size)?
        }
    };
    let like = |values: Tensor| {
        values.f_to_kind(layer.weight.f_kind()?)?.f_to_device(layer.weight.device())
    };
    Ok(Weights { weight: like(scaled)?, bias: Some(like(bias)?), packed: None })
}

/// A batch norm that changes nothing, for a batch norm that cannot be skipped.
///
/// # Errors
/// Those of libtorch.
pub(super) fn identity(norm: &Norm, eps: f64) -> Result<Norm, TchError> {
    fault::point()?;
    let [mean, var] = &norm.statistics;
    let [gamma, beta] = &norm.affine;
    let ones = gamma.as_ref().map(Tensor::f_ones_like).transpose()?;
    let zeros = beta.as_ref().map(Tensor::f_zeros_like).transpose()?;
    Ok(Norm {
        statistics: [mean.f_zeros_like()?, var.f_full_like(1.0 - eps)?],
        affine: [
            ones.map(|ones| ones.f_detach()).transpose()?,
            zeros.map(|zeros| zeros.f_detach()).transpose()?,
        ],
        folded: false,
    })
}

/// The shape of one value per output, for broadcasting over the other dimensions.
fn by_output(weight: &Tensor) -> Vec<i64> {
    (0..weight.dim()).map(|dim| if dim == 0 { -1 } else { 1 }).collect()
}

fn double(tensor: &Tensor) -> Result<Tensor, TchError> {
    let tensor = tensor.f_detach()?;
    // Some devices have no doubles.
    match tensor.device() {
        Device::Cpu | Device::Cuda(_) => tensor.f_to_kind(Kind::Double),
        _ => tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double),
    }
}
