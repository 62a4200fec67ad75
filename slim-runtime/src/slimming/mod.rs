//! What to remove: how much, by which criterion, within which bounds.

mod absorb;
mod bounds;
pub(crate) mod check;
mod coupled;
pub mod criterion;
mod pattern;
mod target;

use serde::{Deserialize, Serialize};

use crate::analysis::Masking;
use crate::slimming::criterion::{Criterion, Normalisation, Ranking};
use crate::{Activation, Cost, Result};
pub use absorb::Absorb;
pub use bounds::{Bounds, Direction, Rounding, Rule};
pub use coupled::CoupledLayers;
pub(crate) use pattern::Pattern;
pub use target::{Scope, Target};

/// Which channels to remove: how many, by which criterion, within which bounds. Every
/// [`Plan`](crate::Plan) records its slimming.
///
/// Start with one of [`ratio`](Self::ratio), [`threshold`](Self::threshold),
/// [`top_k`](Self::top_k), [`params`](Self::params), [`macs`](Self::macs) and
/// [`latency`](Self::latency), then add options.
/// [Choosing what to remove](crate::guide::choosing) explains all of them.
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
    /// How much to remove.
    pub target: Target,
    /// Which channels compete with each other.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// How channels are scored.
    #[serde(default, skip_serializing_if = "Ranking::is_default")]
    pub criterion: Ranking,
    /// What is zero when a channel is removed; `None` for what the criterion [asks
    /// for](Criterion::masking).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masking: Option<Masking>,
    /// How the scores of different layers are made comparable.
    #[serde(default, skip_serializing_if = "is_default")]
    pub normalisation: Normalisation,
    /// How the scores of channels that stay or go together become one score.
    #[serde(default)]
    pub coupling: Coupling,
    /// Bounds on the number of channels that every layer keeps, whatever the target.
    #[serde(default, skip_serializing_if = "Bounds::is_default")]
    pub bounds: Bounds,
    /// Layers with a target of their own, by pattern of field paths. If several patterns match a
    /// layer, the last one counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<(String, Target)>,
    /// Layers that keep all channels, by pattern of field paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Whether what removed channels still send on is added to the layers that read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absorb: Option<Absorb>,
}

/// The score of channels that stay or go together, as in a residual stream, given the score of each
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coupling {
    /// The largest score: they stay if one of them is important.
    #[default]
    Max,
    /// The mean of the scores.
    Mean,
    /// The sum of the scores, which favours channels that many layers write.
    Sum,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How much to remove.
impl Slimming {
    /// The rule of Network Slimming (Liu et al., ICCV 2017, <https://arxiv.org/abs/1708.06519>).
    ///
    /// Let `y` be the |γ| of all batch norms' channels that may be removed, ascending, and `N`
    /// their number. The threshold is `y[⌊N · ratio⌋]`, and a channel stays if its |γ| is strictly
    /// above it: without ties `N − ⌊N · ratio⌋ − 1` stay, and ties at the threshold all go.
    /// Channels that stay or go together, such as those of a residual stream, are scored by the
    /// largest |γ| among them, unless [`coupling`](Self::coupling) says otherwise. Another
    /// [`criterion`](Self::criterion) replaces |γ| by its scores.
    ///
    /// This deviates from the paper in two places. A layer that would be left with fewer channels
    /// than it needs (one; two in each group of tch's own grouped convolutions) keeps those with
    /// the largest scores, the first of equal ones, and the report says so. And `ratio` 0 removes
    /// nothing, where the rule to the letter would remove the smallest. If all |γ| are equal, as
    /// before training, they do not rank the channels, and planning is an error.
    ///
    /// ```
    /// # use slim_runtime::{Slimming, Target};
    /// assert_eq!(Slimming::ratio(0.5).target, Target::Ratio(0.5));
    /// ```
    pub fn ratio(ratio: f64) -> Self {
        // Adding zero makes a negative zero positive.
        Self::to(Target::Ratio(ratio + 0.0))
    }

    /// Removes every channel whose score is at most `threshold`: |γ| ≤ `threshold`, unless another
    /// [`criterion`](Self::criterion) scores.
    pub fn threshold(threshold: f64) -> Self {
        Self::to(Target::Threshold(threshold))
    }

    /// Keeps at most `k` of all scored channels: those with the largest scores, of equal scores the
    /// first in the data flow.
    ///
    /// Exactly `k` stay if no channels are coupled. Coupled channels go together, so fewer may
    /// stay. With [`local`](Self::local), at most `k` stay in each layer. It is an error if more
    /// than `k` channels have to stay because they may not go or a bound keeps them.
    pub fn top_k(k: usize) -> Self {
        Self::to(Target::TopK(k))
    }

    /// Keeps at most the share `share` of the parameters: channels go in the order of their scores
    /// until that is reached, and no more.
    ///
    /// This counts the weights of the layers in the data flow, as
    /// [`Plan::parameters`](crate::Plan::parameters) does. It is an error if the share cannot be
    /// reached.
    ///
    /// ```
    /// # use slim_runtime::Slimming;
    /// let slimming = Slimming::params(0.4); // 40 % of the parameters, or a little less
    /// ```
    pub fn params(share: f64) -> Self {
        Self::to(Target::Params(share))
    }

    /// Keeps at most the share `share` of the multiply-accumulates: channels go in the order of
    /// their scores until that is reached, and no more.
    ///
    /// `cost` is what [`cost`](crate::Prunable::cost) recorded of this network, on samples of the
    /// size that it will be given.
    ///
    /// # Errors
    /// [`CheckError::Uncounted`](crate::error::CheckError::Uncounted) when `cost` has a layer that
    /// could not be counted.
    pub fn macs(share: f64, cost: &Cost) -> Result<Self> {
        Ok(Self::to(Target::Macs { share, uses: cost.uses()? }))
    }

    pub(crate) fn to(target: Target) -> Self {
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
    /// Ranks channels by this criterion. A channel counts as removed when what the criterion [asks
    /// for](Criterion::masking) is zero.
    #[must_use]
    pub fn criterion(self, criterion: impl Criterion + 'static) -> Self {
        Self { criterion: Ranking::new(criterion), ..self }
    }

    /// Sets what is zero when a channel is removed, whatever the criterion.
    #[must_use]
    pub fn masking(self, masking: Masking) -> Self {
        Self { masking: Some(masking), ..self }
    }

    /// What is zero when a channel is removed.
    pub(crate) fn zeroed(&self) -> Masking {
        self.masking.unwrap_or_else(|| self.criterion.masking())
    }

    /// The slimming as a plan records it, with the masking stated: a user's own criterion is stored
    /// by name, and the name does not tell the masking.
    pub(crate) fn recorded(&self) -> Self {
        let masking = if self.criterion.is_default() { self.masking } else { Some(self.zeroed()) };
        Self { masking, ..self.clone() }
    }

    /// Sets how the scores of different layers are made comparable.
    #[must_use]
    pub fn normalisation(self, normalisation: Normalisation) -> Self {
        Self { normalisation, ..self }
    }

    /// Sets how channels that stay or go together are scored.
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

    /// Applies the target to each layer by itself. Layers whose channels stay or go together count
    /// as one layer.
    ///
    /// A budget ([`params`](Self::params), [`macs`](Self::macs)) is of the whole network. All
    /// layers then lose the same share of their channels, by the rule of [`ratio`](Self::ratio):
    /// the smallest share with which the network is within the budget. No smaller share is, unless
    /// widths are [rounded](Self::round_to).
    ///
    /// ```
    /// # use slim_runtime::{Scope, Slimming};
    /// assert_eq!(Slimming::params(0.4).local().scope, Scope::Local);
    /// ```
    #[must_use]
    pub fn local(self) -> Self {
        Self { scope: Scope::Local, ..self }
    }

    /// Applies the target to each class of isomorphic layers by itself (Fang et al., "Isomorphic
    /// Pruning for Vision Models", ECCV 2024): scores compare between layers of one shape, and not
    /// between those of different shapes.
    ///
    /// The members of a class are sets of layers whose channels stay or go together. Two sets are
    /// isomorphic if the parts of the graph that have their channels are the same: the kinds of the
    /// layers that make, follow and read the channels, the sides of their kernels, the operations
    /// between them, and how all of these are connected, in the order of `forward`. Widths and
    /// strides may differ. In a ResNet, the first convolutions of all blocks are one class; a
    /// residual stream is in the class of those streams that have as many blocks.
    ///
    /// A ratio is the share that each class loses, and a top-k is the number of channels that each
    /// class keeps. A budget is of the whole network, and all classes lose the same share of their
    /// channels, as with [`local`](Self::local).
    ///
    /// ```
    /// # use slim_runtime::{Scope, Slimming, criterion::L2};
    /// let slimming = Slimming::params(0.5).criterion(L2).isomorphic();
    /// assert_eq!(slimming.scope, Scope::Isomorphic);
    /// ```
    #[must_use]
    pub fn isomorphic(self) -> Self {
        Self { scope: Scope::Isomorphic, ..self }
    }
}

/// What stays whatever the target.
impl Slimming {
    /// Every layer keeps at least `channels` channels; a layer with fewer keeps all.
    #[must_use]
    pub fn at_least(self, channels: usize) -> Self {
        Self { bounds: Bounds { at_least: Some(channels), ..self.bounds }, ..self }
    }

    /// No layer loses more than the share `share` of its channels, in `[0, 1]`.
    #[must_use]
    pub fn max_removed(self, share: f64) -> Self {
        Self { bounds: Bounds { max_removed: Some(share), ..self.bounds }, ..self }
    }

    /// Every layer that loses channels keeps a multiple of `multiple`: the number that the target
    /// asks for, rounded up, or all.
    #[must_use]
    pub fn round_to(self, multiple: usize) -> Self {
        self.rounding(Rounding { multiple, direction: Direction::Up })
    }

    /// Like [`round_to`](Self::round_to), but rounds down, or up if rounding down would leave none
    /// or break another bound.
    #[must_use]
    pub fn round_down_to(self, multiple: usize) -> Self {
        self.rounding(Rounding { multiple, direction: Direction::Down })
    }

    fn rounding(self, rounding: Rounding) -> Self {
        Self { bounds: Bounds { round_to: Some(rounding), ..self.bounds }, ..self }
    }

    /// Gives the layers that match `pattern` a target of their own: a ratio, a threshold or a top-k
    /// for each of them. If several patterns match, the last one counts. The target also applies to
    /// layers whose channels stay or go together with those of a matching layer.
    ///
    /// A pattern is a field path in which `*` is any text within one name, `**` any number of
    /// names, `?` one character and `[0-3]` one of these characters: `layer1.0.conv1`,
    /// `layer*.*.conv1`. The path of a block matches all layers in it: `layer4`. If a pattern
    /// matches no layer, planning is an error.
    #[must_use]
    pub fn layers(mut self, pattern: impl Into<String>, target: Target) -> Self {
        self.layers.push((pattern.into(), target));
        self
    }

    /// Never removes the channels that the layers matching `pattern` make or pass on, as
    /// `#[prune(keep)]` on their fields would. For patterns see [`layers`](Self::layers).
    #[must_use]
    pub fn keep(mut self, pattern: impl Into<String>) -> Self {
        self.keep.push(pattern.into());
        self
    }
}

/// What happens to the constants that removed channels send on.
impl Slimming {
    /// Adds what removed channels still send on to the layers that read them: see [`Absorb`].
    ///
    /// A channel that passes an activation which is not stated is not absorbed, and
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

    /// Like [`absorb`](Self::absorb), but assumes this activation between a batch norm and each
    /// consumer of its channels, unless another one is stated. That is enough for a chain such as
    /// VGG.
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
