//! What every layer keeps, whatever the target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What every layer keeps, whatever the target. All of them hold at once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bounds {
    /// Channels that each layer keeps, or all where it has fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<usize>,
    /// The largest share of a layer's channels that may go, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_removed: Option<f64>,
    /// What a layer's number of channels is a multiple of, unless it keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_to: Option<Rounding>,
}

/// Numbers of channels that the hardware likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounding {
    /// Numbers of channels are multiples of this.
    pub multiple: usize,
    /// Which of the two neighbours is taken.
    pub direction: Direction,
}

/// Which of two neighbouring multiples is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The larger; all channels where there is none.
    Up,
    /// The smaller; the larger where the smaller is 0 or another bound is in the way.
    Down,
}

/// Which bound has kept a layer from having as many channels as the target asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// The layer, or one that shares or reads its channels, needs so many to work: one, or two in
    /// each group of tch's own grouped convolutions.
    Needed,
    /// [`Bounds::at_least`].
    AtLeast,
    /// [`Bounds::max_removed`].
    MaxRemoved,
    /// [`Bounds::round_to`].
    RoundTo,
}

impl Bounds {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The fewest channels that a layer of `width` keeps, and by which bound.
    pub(crate) fn least(&self, width: usize) -> (usize, Rule) {
        let at_least = (self.at_least.unwrap_or(0).min(width), Rule::AtLeast);
        // Truncated: never more than the share goes.
        let removed = self.max_removed.map_or(width, |share| (width as f64 * share) as usize);
        let clamp = (width - removed.min(width), Rule::MaxRemoved);
        if clamp.0 > at_least.0 { clamp } else { at_least }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Needed => "the layer needs them",
            Rule::AtLeast => "at_least",
            Rule::MaxRemoved => "max_removed",
            Rule::RoundTo => "round_to",
        })
    }
}
