//! The output that a served form of a network must compute, for runners of other crates.

use tch::Tensor;

use crate::analysis;
use crate::numeric::OutputError;
use crate::numeric::compare::{self, tolerance_of};
use crate::panics::caught;
use crate::{Error, Prunable, Result};

/// The output of a network on a sample, with the tolerance for other ways to compute it.
#[derive(Debug)]
pub struct ExpectedOutput {
    output: Tensor,
    tolerance: f64,
}

impl ExpectedOutput {
    /// Runs `forward` without gradients.
    ///
    /// # Errors
    /// [`CheckError::Unverified`](crate::error::CheckError::Unverified) when it panics, or when its
    /// output cannot be compared.
    pub fn of_network<M: Prunable + ?Sized>(
        net: &M,
        sample: &Tensor,
        forward: impl Fn(&M, &Tensor) -> Tensor,
    ) -> Result<Self> {
        let output = caught(|| tch::no_grad(|| forward(net, sample))).map_err(|message| {
            let reason = format!("its forward pass panics: {message}");
            Error::Check(crate::error::CheckError::Unverified { reason })
        })?;
        let (tensors, _) = analysis::tensors(net);
        let coarsest = tensors.iter().map(|(_, tensor)| tolerance_of(tensor)).fold(0., f64::max);
        let expected = Self::of_output(&output)?;
        Ok(Self { tolerance: expected.tolerance.max(coarsest), ..expected })
    }

    /// An output that is known.
    ///
    /// # Errors
    /// [`CheckError::Unverified`](crate::error::CheckError::Unverified) when it cannot be compared.
    pub fn of_output(output: &Tensor) -> Result<Self> {
        Ok(Self { output: compare::usable(output, "network")?, tolerance: tolerance_of(output) })
    }

    /// How close another output is.
    ///
    /// # Errors
    /// How it differs, in words, if by more than rounding explains.
    pub fn compare(&self, output: &Tensor) -> Result<OutputError, String> {
        compare::compare(&self.output, output, self.tolerance)
            .map_err(|error| error.full_text())?
            .map_err(|divergence| divergence.to_string())
    }
}
