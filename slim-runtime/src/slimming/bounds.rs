//! Bounds on the number of channels that every layer keeps, whatever the target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bounds on the number of channels that every layer keeps, whatever the target. All of them hold
/// at once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bounds {
    /// The least number of channels that each layer keeps; a layer with fewer keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<usize>,
    /// The largest share of a layer's channels that may go, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_removed: Option<f64>,
    /// How the number of channels that a layer keeps is rounded, unless it keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_to: Option<Rounding>,
}

/// Rounding of widths to multiples that the hardware is fast at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounding {
    /// Widths are multiples of this.
    pub multiple: usize,
    /// Which of the two neighbouring multiples to take.
    pub direction: Direction,
}

/// Which of two neighbouring multiples to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The larger; all channels if the layer has fewer than that.
    Up,
    /// The smaller; the larger if the smaller is 0 or breaks another bound.
    Down,
}

/// The bound that kept a layer from the number of channels that the target asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// The layer, or a layer that shares or reads its channels, needs this many to work: one
    /// channel, or two in each group of tch's own grouped convolutions.
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

    /// The least number of channels that a layer of `width` channels keeps, and the bound that
    /// demands it.
    pub(crate) fn least(&self, width: usize) -> (usize, Rule) {
        let at_least = (self.at_least.unwrap_or(0).min(width), Rule::AtLeast);
        // Truncated, so that never more than the share is removed.
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
