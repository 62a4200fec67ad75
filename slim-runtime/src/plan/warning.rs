//! What speaks against a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What in the scores speaks against a plan. It is carried out all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The threshold is in the midst of the |γ|, not in a gap between small and large ones: channels go that still send something.
    NoGap {
        /// The threshold.
        threshold: f64,
        /// The median |γ| of the channels that may go and stay.
        median: f64,
    },
    /// All |γ| are small and none is zero, which L2 weight decay does and the L1 penalty does not.
    WeightDecay {
        /// The smallest |γ|.
        smallest: f64,
        /// The largest.
        largest: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoGap { threshold, median } => write!(
                f,
                "the threshold {threshold:.3} is {:.0} % of the median |γ| that stays: no gap, so accuracy will suffer; train longer with sparsity, or remove less",
                100. * threshold / median
            ),
            Warning::WeightDecay { smallest, largest } => write!(
                f,
                "all |γ| are small ({smallest:.2e} to {largest:.2e}) and none is near zero: weight decay on γ fights the sparsity penalty; leave γ out of it"
            ),
        }
    }
}
