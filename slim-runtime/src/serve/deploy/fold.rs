//! Folding: computes a batch norm as a part of a neighbour. With `s = γ / √(σ² + ε)` for each
//! channel, and `t = β − μ · s`:
//!
//! * The layer in front of it has `W' = s · W` and `b' = β + (b − μ) · s`.
//! * The layer behind it has `W' = W · s`, by its inputs, and `b' = b + W t`, its kernels summed
//!   over their positions. With zeros around its input, `t` is missing there, and it has to be 0.

use tch::{Device, Kind, TchError, Tensor};

use super::form::{Norm, Weights};
use crate::analysis::Consumer;
use crate::fault;
use crate::surgery::what_it_makes;

/// The layer with the batch norm folded into it, computed in double precision.
///
/// # Errors
/// Those of libtorch.
pub(in crate::serve) fn folded(
    layer: &Weights,
    transposed: Option<i64>,
    norm: &Norm,
    eps: f64,
) -> Result<Weights, TchError> {
    fault::point()?;
    let _no_grad = tch::no_grad_guard();
    let scale = scale(norm, eps)?;
    let beta = &norm.affine[1];
    let mean = double(&norm.statistics[0])?;
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
    rounded(layer, &scaled, &bias)
}

/// What a batch norm does at inference to each channel, in double precision.
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// # Errors
    /// Those of libtorch.
    pub(super) fn new(norm: &Norm, eps: f64) -> Result<Self, TchError> {
        let _no_grad = tch::no_grad_guard();
        let scale = scale(norm, eps)?;
        let shift = double(&norm.statistics[0])?.f_neg()?.f_mul(&scale)?;
        let shift = match &norm.affine[1] {
            Some(beta) => shift.f_add(&double(beta)?)?,
            None => shift,
        };
        let values = |tensor: &Tensor| Vec::try_from(&tensor.f_to_device(Device::Cpu)?);
        Ok(Self { scale: values(&scale)?, shift: values(&shift)? })
    }
}

/// A batch norm as a change of the layer behind it.
pub(super) struct ByInput {
    /// Factors of the weight, viewed by `view`.
    factor: Tensor,
    /// The weight as `[groups, out / groups, in / groups, kernel]`, or `[in, out / groups, kernel]`
    /// for a transposed convolution.
    view: Vec<i64>,
    /// Summand of the bias.
    shift: Tensor,
}

impl ByInput {
    /// # Errors
    /// Those of libtorch.
    pub(super) fn new(consumer: &Consumer, affine: &Affine) -> Result<Self, TchError> {
        fault::point()?;
        let Consumer { layer, mix, read, channels, .. } = consumer;
        let weight = layer.tensors.iter().find(|bound| bound.name == "weight");
        let weight = weight.ok_or_else(|| TchError::Torch("no weight".to_owned()))?;
        let size = weight.tensor.size();
        let groups = mix.groups as i64;
        let (view, factor_view) = match weight.axes.first() {
            Some(Some(axis)) if *axis == read.axis => (vec![size[0], size[1], -1], vec![-1, 1, 1]),
            _ => (vec![groups, size[0] / groups, size[1], -1], vec![groups, 1, size[1], 1]),
        };
        let by_channel = |values: &[f64]| -> Vec<f64> {
            channels.iter().map(|&channel| values[channel]).collect()
        };
        let _no_grad = tch::no_grad_guard();
        let factor = Tensor::f_from_slice(&by_channel(&affine.scale))?.f_view(&factor_view[..])?;
        let shift = what_it_makes(layer, mix, read, &by_channel(&affine.shift))?;
        Ok(Self { factor, view, shift })
    }

    /// The layer with the batch norm folded into it. If one behind it is folded, too, this comes
    /// first, because the shift is that of the layer's own weight.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(super) fn folded(&self, layer: &Weights) -> Result<Weights, TchError> {
        fault::point()?;
        let _no_grad = tch::no_grad_guard();
        let weight = double(&layer.weight)?;
        let factor = self.factor.f_to_device(weight.device())?;
        let scaled = weight.f_reshape(&self.view[..])?.f_mul(&factor)?;
        let scaled = scaled.f_reshape(weight.size())?;
        let shift = self.shift.f_to_device(weight.device())?;
        let bias = match &layer.bias {
            Some(bias) => double(bias)?.f_add(&shift)?,
            None => shift,
        };
        rounded(layer, &scaled, &bias)
    }
}

/// Weight and bias in the kind and on the device of the layer.
fn rounded(layer: &Weights, weight: &Tensor, bias: &Tensor) -> Result<Weights, TchError> {
    let like = |values: &Tensor| {
        values.f_to_kind(layer.weight.f_kind()?)?.f_to_device(layer.weight.device())
    };
    Ok(Weights { weight: like(weight)?, bias: Some(like(bias)?), packed: None })
}

/// `γ / √(σ² + ε)`, in double precision.
fn scale(norm: &Norm, eps: f64) -> Result<Tensor, TchError> {
    let scale = double(&norm.statistics[1])?.f_add_scalar(eps)?.f_rsqrt()?;
    match &norm.affine[0] {
        Some(gamma) => scale.f_mul(&double(gamma)?),
        None => Ok(scale),
    }
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
