//! What became of what removed channels sent on.

use std::fmt;

/// What became of what a layer was sent by channels that were removed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Absorbed {
    /// Field path of the layer that read them.
    pub path: String,
    /// How many removed channels sent something other than zero, or something that is not known.
    pub channels: usize,
    /// Where it went.
    pub absorption: Absorption,
}

/// Where it went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Absorption {
    /// Into a tensor.
    Into {
        /// Path of the tensor: the layer's bias, or the running mean of the batch norm behind it.
        tensor: String,
        /// Whether nothing is lost but rounding; else the border differs, where the kernel meets
        /// its padding.
        exact: bool,
    },
    /// Nowhere: it is dropped, as without absorption.
    Dropped {
        /// Why.
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
