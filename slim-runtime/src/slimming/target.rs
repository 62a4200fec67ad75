//! How much is to go.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much is to go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Target {
    /// This share of the channels that may go, in `[0, 1)`; the rule of
    /// [`Slimming::ratio`](crate::Slimming::ratio).
    Ratio(f64),
    /// Channels whose score is not above this.
    Threshold(f64),
    /// All but this many channels.
    TopK(usize),
    /// As few channels as it takes to have at most this share of the parameters left, in `(0, 1]`.
    Params(f64),
    /// As few channels as it takes to have at most this share of the multiply-accumulates left, in
    /// `(0, 1]`.
    Macs {
        /// The share.
        share: f64,
        /// How often each weight is used for one sample, by field path and tensor: `conv1.weight`.
        uses: BTreeMap<String, u64>,
    },
}

/// Among which channels the least important are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// All of the network.
    #[default]
    Global,
    /// Those of one layer, or of layers whose channels stay or go together.
    Local,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ratio(ratio) => write!(f, "ratio {ratio}"),
            Target::Threshold(threshold) => write!(f, "threshold {threshold}"),
            Target::TopK(k) => write!(f, "top-k {k}"),
            Target::Params(share) => write!(f, "{share} of the parameters"),
            Target::Macs { share, .. } => write!(f, "{share} of the MACs"),
        }
    }
}
