//! Warnings about a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::table::number;

/// A warning about a plan. The plan can be applied all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The |γ| of removed channels are not small compared with those that stay: there is no gap
    /// between the two, and the removed channels still contribute to the output.
    NoGap {
        /// The largest |γ| of a removed channel.
        largest: f64,
        /// The median |γ| of the channels that could be removed and stay.
        median: f64,
    },
    /// All |γ| are small and none is near zero: the effect of L2 weight decay, not of the L1
    /// penalty.
    WeightDecay {
        /// The smallest |γ|.
        smallest: f64,
        /// The largest |γ|.
        largest: f64,
    },
    /// `forward` asks for sizes here that no view uses. It computed the same for all sizes that
    /// were tried, but may compute something else for other sizes.
    Sizes {
        /// File, line and column of the call.
        at: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoGap { largest, median } => write!(
                f,
                "the largest |γ| that goes, {}, is {:.0} % of the median that stays: no gap, so accuracy will suffer; train longer with sparsity, or remove less",
                number(*largest),
                100. * largest / median
            ),
            Warning::Sizes { at } => write!(
                f,
                "{at}: `forward` asks for sizes, and does the same for all sizes that were tried; if it does something else for yours, write the shape of your images on the struct, as in `#[prune(input = [3, 224, 224])]`, or plan with `plan_on`"
            ),
            Warning::WeightDecay { smallest, largest } => write!(
                f,
                "all |γ| are small ({smallest:.2e} to {largest:.2e}) and none is near zero: weight decay on γ fights the sparsity penalty; leave γ out of it"
            ),
        }
    }
}
