//! Ranges of the values of tensors.

use serde::Serialize;
use tch::{Kind, TchError, Tensor};

/// The smallest and the largest value of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Range {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Range {
    /// The range of a tensor; NaN if one of its values is.
    ///
    /// # Errors
    /// A tensor without elements, and those of libtorch.
    pub(crate) fn of(tensor: &Tensor) -> Result<Self, TchError> {
        let value = |tensor: Tensor| f64::try_from(&tensor.f_to_kind(Kind::Double)?);
        Ok(Range { least: value(tensor.f_min()?)?, most: value(tensor.f_max()?)? })
    }

    /// The range of the values of both.
    pub(crate) fn with(self, other: Range) -> Self {
        Range { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// The range of the values after they are clipped.
    pub(crate) fn clipped(self, least: f64, most: f64) -> Self {
        Range { least: self.least.max(least).min(most), most: self.most.min(most).max(least) }
    }

    pub(crate) fn is_finite(self) -> bool {
        self.least.is_finite() && self.most.is_finite()
    }
}
