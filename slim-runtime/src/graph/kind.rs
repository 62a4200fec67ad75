//! The terms of a plan: kinds of layers, roles of tensors, reasons why a channel must stay.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a layer, as far as plans and cfgs distinguish it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerKind {
    /// A convolution of any rank.
    Conv,
    /// A transposed convolution of any rank.
    ConvTranspose,
    /// A batch norm of any rank. One integer of a [`Cfg`](crate::Cfg).
    BatchNorm,
    /// A group norm.
    GroupNorm,
    /// A layer norm.
    LayerNorm,
    /// A fully connected layer.
    Linear,
    /// A table of vectors.
    Embedding,
    /// One value per channel: a scale, the slopes of a PReLU.
    PerChannel,
    /// A max-pool. `'M'` in a [`Cfg`](crate::Cfg).
    MaxPool,
    /// An average pool.
    AvgPool,
    /// Cuts channels into parts of stored sizes.
    Split,
    /// Puts channels into a stored order.
    Shuffle,
    /// Picks the channels that the batch norm behind it keeps.
    ChannelSelect,
    /// A layer of another crate, with the name that its `trace` gives.
    Other(String),
}

impl LayerKind {
    /// A kind of layer that this crate does not know.
    pub fn other(name: impl Into<String>) -> Self {
        LayerKind::Other(name.into())
    }

    /// Whether a layer is an entry of a [`Cfg`](crate::Cfg). `tied` says for each of its tensors
    /// whether an earlier layer has bound it: a norm that is applied twice is one entry.
    pub(crate) fn is_cfg_entry(&self, mut tied: impl Iterator<Item = bool>) -> bool {
        match self {
            LayerKind::BatchNorm => tied.any(|tied| !tied),
            LayerKind::MaxPool => true,
            _ => false,
        }
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LayerKind::Conv => "conv",
            LayerKind::ConvTranspose => "transposed conv",
            LayerKind::BatchNorm => "batch norm",
            LayerKind::GroupNorm => "group norm",
            LayerKind::LayerNorm => "layer norm",
            LayerKind::Linear => "linear",
            LayerKind::Embedding => "embedding",
            LayerKind::PerChannel => "per channel",
            LayerKind::MaxPool => "max-pool",
            LayerKind::AvgPool => "avg-pool",
            LayerKind::Split => "split",
            LayerKind::Shuffle => "shuffle",
            LayerKind::ChannelSelect => "channel select",
            LayerKind::Other(name) => name,
        })
    }
}

/// Whether a tensor is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Trained; counts among the parameters.
    Parameter,
    /// Not trained, such as running statistics.
    Buffer,
}

/// Why a channel is held, whatever its score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// The channel is an input of the model.
    Input,
    /// The channel is an output of the model.
    Output,
    /// No batch norm ranks the channel.
    Unscored,
    /// A field is marked `#[prune(keep)]`.
    Keep {
        /// Path of the field.
        by: String,
    },
    /// A layer reads the channel without a batch norm in between, so removing it would change what
    /// the layer computes.
    Ungated {
        /// Path of the layer.
        by: String,
    },
    /// A normalisation computes its statistics over several channels, so removing one would change
    /// the others.
    Mixed {
        /// Path of the layer.
        by: String,
    },
    /// A forward pass computes something from several channels together, so removing one would
    /// change the others.
    Together {
        /// Path of the part that the forward pass belongs to.
        by: String,
        /// The computation, and its source position.
        what: String,
    },
    /// A layer picks channels from a stream, and the stream keeps its width.
    Stream {
        /// Path of the layer.
        by: String,
    },
    /// The channel multiplies every channel of another flow.
    Broadcast {
        /// Path of the struct that multiplies.
        by: String,
    },
    /// The channel's dimension belongs to a shared tensor, and another layer that uses the tensor
    /// does not allow that dimension to shrink.
    Tied {
        /// Path of the other layer.
        by: String,
    },
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Input => f.write_str("model input"),
            KeepReason::Output => f.write_str("model output"),
            KeepReason::Unscored => f.write_str("no batch norm ranks them"),
            KeepReason::Keep { by } => write!(f, "`{by}` says keep"),
            KeepReason::Ungated { by } => {
                write!(f, "`{by}` reads them where no batch norm can set them to zero")
            }
            KeepReason::Mixed { by } => {
                write!(f, "`{by}` computes its statistics over several channels")
            }
            KeepReason::Together { by, what } => write!(f, "`{by}` needs all of them: {what}"),
            KeepReason::Stream { by } => {
                write!(f, "`{by}` picks from the stream, which keeps its width")
            }
            KeepReason::Broadcast { by } => {
                write!(f, "`{by}` multiplies every channel of another flow with them")
            }
            KeepReason::Tied { by } => write!(f, "`{by}` shares its weight"),
        }
    }
}
