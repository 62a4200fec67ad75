//! Channels that cannot be chosen as asked.

use super::text::known_layers;

/// No channels can be chosen as asked.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// What is asked for cannot be.
    #[error("{reason}")]
    Slimming {
        /// What cannot be, and the fix.
        reason: String,
    },

    /// No channel of the model may be removed.
    #[error("nothing to prune: {reason}")]
    NothingToPrune {
        /// Why not, and the fix.
        reason: String,
    },

    /// All scores are equal, as in a network that has not been trained.
    #[error("every {} {}that could go is {score}, so nothing tells the channels apart and the rule would remove all of them; train first{}", if .criterion == "batch_norm_scale" { "|γ|" } else { "score" }, .layer.as_ref().map(|path| format!("of `{path}` ")).unwrap_or_default(), if .criterion == "batch_norm_scale" { ", with `add_l1_subgradient` between `backward` and `step`" } else { "" })]
    NoRanking {
        /// The one score.
        score: f64,
        /// Name of the criterion.
        criterion: String,
        /// Path of the first of the layers that compete, where that is not the whole network.
        layer: Option<String>,
    },

    /// A scale that ranks channels is NaN or infinite.
    #[error(
        "by `{path}.{tensor}`, channel {channel} has the score {value}: scores must be finite; where the weights are not, the training has diverged: load an earlier checkpoint or lower the learning rate"
    )]
    NonFinite {
        /// Field path of the layer.
        path: String,
        /// Name of the scoring tensor.
        tensor: String,
        /// Which channel.
        channel: usize,
        /// NaN or an infinity.
        value: f64,
    },

    /// No γ that is trained has a gradient.
    #[error(
        "no scale (γ) has a gradient yet; add the sparsity penalty behind `backward` and in front of `step`"
    )]
    NoGradient,

    /// A pattern or path names no layer.
    #[error("no layer is called `{pattern}`{}", known_layers(.pattern, .known))]
    NoLayer {
        /// The pattern or path.
        pattern: String,
        /// Paths of the layers that there are.
        known: Vec<String>,
    },

    /// A number of channels or a budget that the network cannot come down to.
    #[error(
        "{target} is out of reach: that would be at most {most}, and {least} stay when every removable channel is removed; allow more, or relax a bound or a `keep`"
    )]
    OutOfReach {
        /// The target.
        target: String,
        /// What is allowed.
        most: u64,
        /// What is left when all goes that may.
        least: u64,
    },

    /// A criterion gave other scores than one for each channel.
    #[error(
        "the criterion `{criterion}` gives `{path}` scores of shape {found:?}, not one for each of its {channels} channels"
    )]
    Scores {
        /// Name of the criterion.
        criterion: String,
        /// Field path of the layer.
        path: String,
        /// How many channels the layer has.
        channels: usize,
        /// The shape of the scores.
        found: Vec<i64>,
    },

    /// A slimming was read from a file and its criterion is another program's.
    #[error(
        "the criterion `{name}` is not one of this crate's, and only its name is in the file; give it again with `Slimming::criterion`"
    )]
    UnknownCriterion {
        /// Its name.
        name: String,
    },
}
