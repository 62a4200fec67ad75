//! Warnings about a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::table::{number, percent};

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
    /// More channels go than the ratio asks for, since channels of one score are not told apart:
    /// those of a head, say, which go together.
    Overshoot {
        /// The share of the channels that was asked for.
        asked: f64,
        /// The share that goes, of the channels that may go.
        reached: f64,
    },
    /// Layers that fall to the least number of channels that they need, by scores that are not
    /// normalised: norms of weights of different kinds of layers do not compare.
    Floor {
        /// The layers, by path.
        layers: Vec<String>,
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
            Warning::Overshoot { asked, reached } => write!(
                f,
                "{} of the channels were asked for and {} go: channels of one score, such as those of a head, are not told apart; ask for less, or for a number of channels (`top_k`)",
                percent(*asked),
                percent(*reached)
            ),
            Warning::Floor { layers } => write!(
                f,
                "{} fall{} to the least that {} need{}: scores of different kinds of layers do not compare; normalise them with `.normalisation(Normalisation::Mean)`, or rank each layer by itself with `.local()`",
                named(layers),
                if layers.len() == 1 { "s" } else { "" },
                if layers.len() == 1 { "it" } else { "they" },
                if layers.len() == 1 { "s" } else { "" },
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

/// How many layers a warning names.
const MOST_NAMED: usize = 3;

fn named(layers: &[String]) -> String {
    let names: Vec<_> = layers.iter().take(MOST_NAMED).map(|path| format!("`{path}`")).collect();
    match layers.len() - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
