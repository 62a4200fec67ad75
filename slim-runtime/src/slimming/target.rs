//! How much to remove.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::analysis::latency::LayerLatencies;
use crate::numeric::Uses;

/// How much to remove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Target {
    /// Removes this share of the channels that may go, in `[0, 1)`, by the rule of
    /// [`Slimming::ratio`](crate::Slimming::ratio).
    Ratio(f64),
    /// Removes channels whose score is at most this.
    Threshold(f64),
    /// Removes all but this many channels.
    TopK(usize),
    /// Removes as few channels as leave at most this share of the parameters, in `(0, 1]`.
    Params(f64),
    /// Removes as few channels as leave at most this share of the multiply-accumulates, in
    /// `(0, 1]`.
    Macs {
        /// The share.
        share: f64,
        /// How often each weight is used for one sample, by field path and tensor: `conv1.weight`.
        uses: BTreeMap<String, Uses>,
    },
    /// Removes as few channels as leave at most this share of the predicted latency, in `(0, 1]`.
    Latency {
        /// The share.
        share: f64,
        /// The times of the layers.
        latencies: LayerLatencies,
    },
}

/// Which channels compete with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// All channels of the network.
    #[default]
    Global,
    /// The channels of one layer, or of layers whose channels stay or go together.
    Local,
    /// The channels of layers that are isomorphic: see
    /// [`Slimming::isomorphic`](crate::Slimming::isomorphic).
    Isomorphic,
}

impl Target {
    /// The share of a cost that may stay; `None` if the target is no budget.
    pub(crate) fn budget(&self) -> Option<f64> {
        match *self {
            Target::Params(share) | Target::Macs { share, .. } | Target::Latency { share, .. } => {
                Some(share)
            }
            Target::Ratio(_) | Target::Threshold(_) | Target::TopK(_) => None,
        }
    }

    /// Whether it is a share of the cost of the whole network.
    pub(crate) fn is_budget(&self) -> bool {
        self.budget().is_some()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ratio(ratio) => write!(f, "ratio {ratio}"),
            Target::Threshold(threshold) => write!(f, "threshold {threshold}"),
            Target::TopK(k) => write!(f, "top-k {k}"),
            Target::Params(share) => write!(f, "{share} of the parameters"),
            Target::Macs { share, .. } => write!(f, "{share} of the MACs"),
            Target::Latency { share, .. } => write!(f, "{share} of the latency"),
        }
    }
}
