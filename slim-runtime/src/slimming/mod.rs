//! What to remove: how much, by which criterion, within which bounds.

mod absorb;
mod bounds;
pub(crate) mod check;
pub mod criterion;
mod pattern;
mod target;

use serde::{Deserialize, Serialize};

use crate::analysis::Masking;
use crate::slimming::criterion::{Criterion, Normalisation, Ranking};
use crate::{Activation, Cost, Result};
pub use absorb::Absorb;
pub use bounds::{Bounds, Direction, Rounding, Rule};
pub(crate) use pattern::Pattern;
pub use target::{Scope, Target};

/// Which channels to remove: how many, by which criterion, within which bounds. Every
/// [`Plan`](crate::Plan) keeps it.
///
/// One of [`ratio`](Self::ratio), [`threshold`](Self::threshold), [`top_k`](Self::top_k),
/// [`params`](Self::params) and [`macs`](Self::macs) starts it; what else is said is in addition.
/// All of it is explained in [choosing what to remove](crate::guide::choosing).
///
/// ```
/// use slim_runtime::{Slimming, Target, criterion::L2};
///
/// let slimming = Slimming::ratio(0.5)   // half of the channels
///     .criterion(L2)                    // those whose filters have the smallest L2 norms
///     .max_removed(0.8)                 // of no layer more than 80 %
///     .round_to(8)                      // so that each is left with a multiple of 8
///     .layers("layer4", Target::Ratio(0.7)) // but of layer4, 70 %
///     .keep("stem.conv");               // and none of the stem
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slimming {
    /// How much is to go.
    pub target: Target,
    /// Among which channels the least important are looked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// How important a channel is.
    #[serde(default, skip_serializing_if = "Ranking::is_default")]
    pub criterion: Ranking,
    /// What is zero when a channel is gone; `None` for what the criterion
    /// [asks for](Criterion::masking).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masking: Option<Masking>,
    /// How the scores of different layers are made comparable.
    #[serde(default, skip_serializing_if = "is_default")]
    pub normalisation: Normalisation,
    /// The score of channels that stay or go together.
    #[serde(default)]
    pub coupling: Coupling,
    /// What every layer keeps, whatever the target.
    #[serde(default, skip_serializing_if = "Bounds::is_default")]
    pub bounds: Bounds,
    /// Layers with a target of their own, by pattern of field paths. Of several that match a layer,
    /// the last counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<(String, Target)>,
    /// Layers that keep all channels, by pattern of field paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Whether what removed channels still sent on is added to what reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absorb: Option<Absorb>,
}

/// What channels that stay or go together, as in a residual stream, have for a score, given the
/// scores of each of them.
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How much is to go.
impl Slimming {
    /// The rule of Network Slimming (Liu et al., ICCV 2017, <https://arxiv.org/abs/1708.06519>).
    ///
    /// Let `y` be the |γ| of all batch norms' channels that may be removed, ascending, and `N`
    /// their number. The threshold is `y[⌊N · ratio⌋]`, and a channel stays when its |γ| is above
    /// it, strictly: without ties `N − ⌊N · ratio⌋ − 1` stay, and ties at the threshold all go.
    /// Channels that must stay or go together, such as those of a residual stream, have the largest
    /// |γ| among them for a score, unless [`coupling`](Self::coupling) says otherwise. Another
    /// [`criterion`](Self::criterion) has its scores in place of |γ|.
    ///
    /// Two repairs: a layer that would be left with fewer channels than it needs (one; two in each
    /// group of tch's own grouped convolutions) keeps those with the largest scores, of equal ones
    /// the first, and the report says so; and `ratio` 0 removes nothing, where the rule to the
    /// letter would remove the smallest. Where all |γ| are equal, as before training, nothing ranks
    /// the channels and planning is an error.
    ///
    /// ```
    /// # use slim_runtime::{Slimming, Target};
    /// assert_eq!(Slimming::ratio(0.5).target, Target::Ratio(0.5));
    /// ```
    pub fn ratio(ratio: f64) -> Self {
        // Adding zero makes a negative zero positive.
        Self::new(Target::Ratio(ratio + 0.0))
    }

    /// Channels go whose score is not above `threshold`, however many they are: |γ| ≤ `threshold`,
    /// unless another [`criterion`](Self::criterion) scores.
    pub fn threshold(threshold: f64) -> Self {
        Self::new(Target::Threshold(threshold))
    }

    /// At most `k` channels stay, of all that are scored: those with the largest scores, of equal
    /// ones the first in the data flow.
    ///
    /// Exactly `k` where no channels are coupled: coupled ones go together, so fewer may stay. With
    /// [`local`](Self::local), `k` in each layer. That more have to stay, since they may not go or
    /// a bound keeps them, is an error.
    pub fn top_k(k: usize) -> Self {
        Self::new(Target::TopK(k))
    }

    /// At most the share `share` of the trained values stays: channels go in the order of their
    /// scores until that is so, and no more.
    ///
    /// Counted are the weights of the layers in the data flow, as in
    /// [`Plan::parameters`](crate::Plan::parameters). That it cannot be reached is an error.
    ///
    /// ```
    /// # use slim_runtime::Slimming;
    /// let slimming = Slimming::params(0.4); // 40 % of the parameters, or a little less
    /// ```
    pub fn params(share: f64) -> Self {
        Self::new(Target::Params(share))
    }

    /// At most the share `share` of the multiply-accumulates stays: channels go in the order of
    /// their scores until that is so, and no more.
    ///
    /// `cost` is what [`cost`](crate::Prunable::cost) recorded of this network, on samples of the
    /// size that it will see.
    ///
    /// # Errors
    /// [`Error::Uncounted`](crate::Error::Uncounted) when `cost` has a layer that could not be
    /// counted.
    pub fn macs(share: f64, cost: &Cost) -> Result<Self> {
        Ok(Self::new(Target::Macs { share, uses: cost.uses()? }))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            scope: Scope::default(),
            criterion: Ranking::default(),
            masking: None,
            normalisation: Normalisation::default(),
            coupling: Coupling::default(),
            bounds: Bounds::default(),
            layers: Vec::new(),
            keep: Vec::new(),
            absorb: None,
        }
    }
}

/// Which channels go first.
impl Slimming {
    /// Ranks channels by this, and takes a channel to be gone when what the criterion
    /// [asks for](Criterion::masking) is zero.
    #[must_use]
    pub fn criterion(self, criterion: impl Criterion + 'static) -> Self {
        Self { criterion: Ranking::new(criterion), ..self }
    }

    /// Takes a channel to be gone when this is zero, whatever the criterion.
    #[must_use]
    pub fn masking(self, masking: Masking) -> Self {
        Self { masking: Some(masking), ..self }
    }

    /// What is zero when a channel is gone.
    pub(crate) fn zeroed(&self) -> Masking {
        self.masking.unwrap_or_else(|| self.criterion.masking())
    }

    /// As a plan keeps it: what a criterion of a user's own asks for is not in its name.
    pub(crate) fn recorded(&self) -> Self {
        let masking = if self.criterion.is_default() { self.masking } else { Some(self.zeroed()) };
        Self { masking, ..self.clone() }
    }

    /// Makes the scores of different layers comparable in this way.
    #[must_use]
    pub fn normalisation(self, normalisation: Normalisation) -> Self {
        Self { normalisation, ..self }
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

    /// Applies the target to each layer by itself; layers whose channels stay or go together are
    /// one.
    #[must_use]
    pub fn local(self) -> Self {
        Self { scope: Scope::Local, ..self }
    }
}

/// What stays whatever the target.
impl Slimming {
    /// Every layer keeps at least `channels` channels, or all where it has fewer.
    #[must_use]
    pub fn at_least(self, channels: usize) -> Self {
        Self { bounds: Bounds { at_least: Some(channels), ..self.bounds }, ..self }
    }

    /// No layer loses more than the share `share` of its channels, in `[0, 1]`.
    #[must_use]
    pub fn max_removed(self, share: f64) -> Self {
        Self { bounds: Bounds { max_removed: Some(share), ..self.bounds }, ..self }
    }

    /// Every layer that loses channels is left with a multiple of `multiple`: as many as the target
    /// asks for, rounded up, or all.
    #[must_use]
    pub fn round_to(self, multiple: usize) -> Self {
        self.rounding(Rounding { multiple, direction: Direction::Up })
    }

    /// Like [`round_to`](Self::round_to), rounded down; up where down would be none, or another
    /// bound is in the way.
    #[must_use]
    pub fn round_down_to(self, multiple: usize) -> Self {
        self.rounding(Rounding { multiple, direction: Direction::Down })
    }

    fn rounding(self, rounding: Rounding) -> Self {
        Self { bounds: Bounds { round_to: Some(rounding), ..self.bounds }, ..self }
    }

    /// Gives the layers that match `pattern` a target of their own, which may be a ratio, a
    /// threshold or a top-k of each of them; of several patterns that match, the last counts.
    /// Layers whose channels stay or go together with a matching one are meant too.
    ///
    /// A pattern is a field path, in which `*` is any text within one name, `**` any number of
    /// names, `?` a character and `[0-3]` one of those: `layer1.0.conv1`, `layer*.*.conv1`. A
    /// block's path means all layers in it: `layer4`. One that matches nothing is an error of
    /// planning.
    #[must_use]
    pub fn layers(mut self, pattern: impl Into<String>, target: Target) -> Self {
        self.layers.push((pattern.into(), target));
        self
    }

    /// Never removes what the layers that match `pattern` give, as `#[prune(keep)]` on their fields
    /// would. For patterns see [`layers`](Self::layers).
    #[must_use]
    pub fn keep(mut self, pattern: impl Into<String>) -> Self {
        self.keep.push(pattern.into());
        self
    }
}

/// What removed channels leave behind.
impl Slimming {
    /// Adds what removed channels still send on to what reads them: see [`Absorb`].
    ///
    /// What passes an activation of which nothing is said is not absorbed, and
    /// [`Slimmed`](crate::Slimmed) says so.
    ///
    /// ```
    /// # use slim_runtime::{Absorb, Slimming};
    /// assert_eq!(Slimming::ratio(0.5).absorb().absorb, Some(Absorb::default()));
    /// ```
    #[must_use]
    pub fn absorb(self) -> Self {
        Self { absorb: Some(Absorb { after: None }), ..self }
    }

    /// Like [`absorb`](Self::absorb), and a channel that comes out of a batch norm is taken to pass
    /// this activation on its way to each reader, unless something is said of it: enough for a
    /// chain such as VGG.
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
}
