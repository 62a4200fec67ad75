//! The outcome of absorption: where the constants of removed channels went.

use std::fmt;

/// The outcome of absorption for one layer that read removed channels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Absorbed {
    /// Field path of the layer.
    pub path: String,
    /// Number of removed channels whose constant is not zero, or not known.
    pub channels: usize,
    /// Where the constants went.
    pub absorption: Absorption,
}

/// Where the constants went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Absorption {
    /// They were added to a tensor.
    Into {
        /// Path of the tensor: the layer's bias, or the running mean of the batch norm behind it.
        tensor: String,
        /// Whether the absorption is exact up to rounding. If it is not, the output differs at the
        /// border, where the kernel meets its padding.
        exact: bool,
    },
    /// They were dropped, as without absorption.
    Dropped {
        /// Why they were not absorbed.
        reason: String,
    },
}

impl fmt::Display for Absorbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Absorbed { path, channels, absorption } = self;
        let s = if *channels == 1 { "" } else { "s" };
        match absorption {
            Absorption::Into { tensor, exact } => {
                let exact = if *exact { "exact" } else { "exact but at the padded border" };
                write!(f, "`{path}`: {channels} channel{s} into `{tensor}`, {exact}")
            }
            Absorption::Dropped { reason } => {
                write!(f, "`{path}`: {channels} channel{s} dropped: {reason}")
            }
        }
    }
}
