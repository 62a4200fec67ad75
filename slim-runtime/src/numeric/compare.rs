//! Comparison of two outputs up to rounding.

use std::fmt;

use tch::{Device, Kind, Tensor};

use crate::error::CheckError;
use crate::{Error, Result};

/// The difference between the outputs of a slimmed network and the masked one, where rounding
/// explains it. `Display` writes it as a sentence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct OutputError {
    /// The largest difference between an element of the masked network's output and of the slimmed
    /// one's.
    pub difference: f64,
    /// The largest magnitude in the masked network's output.
    pub magnitude: f64,
}

impl OutputError {
    /// Whether the difference is at most `tolerance` of the magnitude.
    pub(crate) fn is_within(self, tolerance: f64) -> bool {
        self.difference <= tolerance * self.magnitude
    }

    /// The larger of both values.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            difference: self.difference.max(other.difference),
            magnitude: self.magnitude.max(other.magnitude),
        }
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { difference, magnitude } = self;
        // One decimal would show a small magnitude as 0.0.
        let magnitude =
            if *magnitude >= 0.1 { format!("{magnitude:.1}") } else { format!("{magnitude:.1e}") };
        write!(
            f,
            "slimmed and masked outputs (up to {magnitude}) differ by {difference:.1e} at most"
        )
    }
}

/// How the output of a slimmed network differs from the masked one's by more than rounding
/// explains.
#[derive(Debug, Clone)]
pub(crate) enum Divergence {
    Values { difference: f64, magnitude: f64, tolerance: f64 },
    NonFinite,
    Shape { masked: Vec<i64>, slimmed: Vec<i64> },
    Panic { message: String },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Divergence::Values { difference, magnitude, tolerance } => {
                let allowed = tolerance * magnitude;
                write!(
                    f,
                    "outputs of up to {magnitude:.3} are off by up to {difference:.2e}, where rounding would explain {allowed:.1e}"
                )
            }
            Divergence::NonFinite => f.write_str("outputs are NaN or infinite"),
            Divergence::Shape { masked, slimmed } => {
                write!(f, "the output has shape {slimmed:?} instead of {masked:?}")
            }
            Divergence::Panic { message } => write!(f, "it panics: {message}"),
        }
    }
}

/// Converts a network's output to double precision, if the output can be compared. Errors call the
/// network `whose`.
///
/// # Errors
/// [`CheckError::Unverified`](crate::error::CheckError::Unverified) when the output is no float
/// tensor, or is empty, not finite or zero everywhere; [`Error::Torch`].
pub(crate) fn usable(output: &Tensor, whose: &str) -> Result<Tensor> {
    let unverified = |reason: String| Err(Error::Check(CheckError::Unverified { reason }));
    let kind = output.f_kind().map_err(torch)?;
    if !is_float(kind) {
        return unverified(format!(
            "the closure returns {kind:?}; let it return floats, such as logits"
        ));
    }
    if output.numel() == 0 {
        return unverified(format!(
            "the output is empty ({:?}); the sample needs at least one item",
            output.size()
        ));
    }
    let output = double(output)?;
    if !all_finite(&output)? {
        return unverified(format!(
            "the {whose}'s output is not finite on this sample; use another"
        ));
    }
    if largest(&output)? == 0.0 {
        return unverified(format!(
            "the {whose}'s output is zero everywhere on this sample, which shows nothing; use another"
        ));
    }
    Ok(output)
}

/// Compares a slimmed network's output with the masked one's, which [`usable`] has returned.
///
/// # Errors
/// [`Error::Torch`].
pub(crate) fn compare(
    masked: &Tensor,
    slimmed: &Tensor,
    tolerance: f64,
) -> Result<Result<OutputError, Divergence>> {
    if masked.size() != slimmed.size() {
        return Ok(Err(Divergence::Shape { masked: masked.size(), slimmed: slimmed.size() }));
    }
    let slimmed = double(slimmed)?;
    if !all_finite(&slimmed)? {
        return Ok(Err(Divergence::NonFinite));
    }
    let found = distance(masked, &slimmed)?;
    let OutputError { difference, magnitude } = found;
    Ok(if found.is_within(tolerance) {
        Ok(found)
    } else {
        Err(Divergence::Values { difference, magnitude, tolerance })
    })
}

/// The distance of two tensors in double precision, on the CPU, of one shape and not empty.
///
/// # Errors
/// [`Error::Torch`].
pub(crate) fn distance(expected: &Tensor, found: &Tensor) -> Result<OutputError> {
    let difference = largest(&expected.f_sub(found).map_err(torch)?)?;
    Ok(OutputError { difference, magnitude: largest(expected)? })
}

/// The error that rounding may cause, as a share of the largest output. `tensors` are the network's
/// tensors and its output; the coarsest kind among them counts.
///
/// Full-size networks of up to 164 layers were measured on a CPU: the largest difference was 72
/// unit roundoffs in `f64`, 27 in `f32`, 9 in `bf16` (which rounds every layer's output, but sums
/// in `f32`). The tolerance is more than a thousand times that difference for `f64`, and at least
/// five times for coarser kinds. TF32 rounds as `f16` does.
pub(crate) fn tolerance<'t>(tensors: impl IntoIterator<Item = &'t Tensor>) -> f64 {
    tensors.into_iter().map(tolerance_of).fold(0.0, f64::max)
}

/// The error that rounding may cause in a computation with this tensor's kind on its device, as a
/// share of the largest output.
pub(crate) fn tolerance_of(tensor: &Tensor) -> f64 {
    match (tensor.f_kind().unwrap_or(Kind::Float), tensor.device()) {
        (Kind::Double, _) => 1e-10,
        // CUDA computes convolutions in TF32, whose mantissa has 10 bits.
        (Kind::Float, Device::Cuda(_)) => 2e-2,
        (Kind::Half, _) => 5e-2,
        (Kind::BFloat16, _) => 2e-1,
        (Kind::Float, _) => 1e-4,
        _ => 0.0,
    }
}

pub(crate) fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double)
}

pub(crate) fn double(tensor: &Tensor) -> Result<Tensor> {
    // First to the CPU: not every device has doubles.
    tensor.f_to_device(Device::Cpu).and_then(|tensor| tensor.f_to_kind(Kind::Double)).map_err(torch)
}

pub(crate) fn all_finite(tensor: &Tensor) -> Result<bool> {
    let all = tensor.f_isfinite().and_then(|finite| finite.f_all()).map_err(torch)?;
    all.f_int64_value(&[]).map(|all| all != 0).map_err(torch)
}

pub(crate) fn largest(tensor: &Tensor) -> Result<f64> {
    tensor
        .f_abs()
        .and_then(|tensor| tensor.f_max())
        .and_then(|max| max.f_double_value(&[]))
        .map_err(torch)
}

fn torch(cause: tch::TchError) -> Error {
    Error::torch("comparing outputs")(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outputs_are_seen() {
        let said = |magnitude| OutputError { difference: 3.8e-6, magnitude }.to_string();
        assert_eq!(said(10.69), "slimmed and masked outputs (up to 10.7) differ by 3.8e-6 at most");
        assert_eq!(said(0.1), "slimmed and masked outputs (up to 0.1) differ by 3.8e-6 at most");
        assert_eq!(
            said(0.0421),
            "slimmed and masked outputs (up to 4.2e-2) differ by 3.8e-6 at most"
        );
    }
}
