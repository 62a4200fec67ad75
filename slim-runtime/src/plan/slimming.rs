//! How to choose the channels to remove.

use serde::{Deserialize, Serialize};

use crate::{Absorb, Activation, Error, Result};

/// How to choose the channels to remove.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slimming {
    /// The share of channels to remove, of the batch norms' γ entries that may go.
    pub ratio: f64,
    /// The score of channels that stay or go together.
    #[serde(default)]
    pub coupling: Coupling,
    /// Whether what removed channels still sent on is added to what reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absorb: Option<Absorb>,
}

/// What channels that stay or go together, as in a residual stream, have for a score, given the |γ| of each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coupling {
    /// The largest: they stay if one of them is important.
    #[default]
    Max,
    /// The mean.
    Mean,
    /// The sum, which favours channels that many layers write.
    Sum,
}

impl Slimming {
    /// The rule of Network Slimming (Liu et al., ICCV 2017, <https://arxiv.org/abs/1708.06519>).
    ///
    /// Let `y` be the |γ| of all batch norms' channels that may be removed, ascending, and `N` their number.
    /// The threshold is `y[⌊N · ratio⌋]`, and a channel stays when its |γ| is above it, strictly: without ties
    /// `N − ⌊N · ratio⌋ − 1` stay, and ties at the threshold all go. Channels that must stay or go together, such as those of a
    /// residual stream, have the largest |γ| among them for a score, unless [`coupling`](Self::coupling) says otherwise.
    ///
    /// Two repairs: a layer that would be left with fewer channels than it needs (one; two in each group of tch's own grouped convolutions) keeps those with
    /// the largest scores, and the report says so;
    /// and `ratio` 0 removes nothing, where the rule to the letter would remove the smallest. Where all |γ| are equal, as before training, nothing ranks
    /// the channels and planning is an error.
    ///
    /// ```
    /// # use slim_runtime::Slimming;
    /// assert_eq!(Slimming::ratio(0.5).ratio, 0.5);
    /// ```
    pub fn ratio(ratio: f64) -> Self {
        // Adding zero makes a negative zero positive.
        Self { ratio: ratio + 0.0, coupling: Coupling::default(), absorb: None }
    }

    /// Scores channels that stay or go together in this way.
    ///
    /// ```
    /// # use slim_runtime::{Coupling, Slimming};
    /// let slimming = Slimming::ratio(0.5).coupling(Coupling::Mean);
    /// assert_eq!(slimming.coupling, Coupling::Mean);
    /// ```
    #[must_use]
    pub fn coupling(self, coupling: Coupling) -> Self {
        Self { coupling, ..self }
    }

    /// Adds what removed channels still send on to what reads them: see [`Absorb`].
    ///
    /// What passes an activation of which nothing is said is not absorbed, and [`Slimmed`](crate::Slimmed) says so.
    ///
    /// ```
    /// # use slim_runtime::{Absorb, Slimming};
    /// assert_eq!(Slimming::ratio(0.5).absorb().absorb, Some(Absorb::default()));
    /// ```
    #[must_use]
    pub fn absorb(self) -> Self {
        Self { absorb: Some(Absorb { after: None }), ..self }
    }

    /// Like [`absorb`](Self::absorb), and a channel that comes out of a batch norm is taken to pass this activation on its way to each reader, unless something is
    /// said of it: enough for a chain such as VGG.
    ///
    /// ```
    /// # use slim_runtime::{Activation, Slimming};
    /// let slimming = Slimming::ratio(0.5).absorb_after(Activation::Relu);
    /// # assert_eq!(slimming.absorb.unwrap().after, Some(Activation::Relu));
    /// ```
    #[must_use]
    pub fn absorb_after(self, activation: Activation) -> Self {
        Self { absorb: Some(Absorb { after: Some(activation) }), ..self }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(Err(parameter)) = self.absorb.and_then(|absorb| absorb.after).map(Activation::check) {
            return Err(Error::Activation(parameter));
        }
        if (0.0..1.0).contains(&self.ratio) { Ok(()) } else { Err(Error::Ratio(self.ratio)) }
    }
}
