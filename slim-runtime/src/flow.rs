//! What flows between layers, symbolically: lists of channel ids.

use std::rc::Rc;

use crate::tracer::{Sent, Writers};

/// A channel of the network. Ids are dense, in the order in which a trace makes them.
pub(crate) type ChannelId = u32;

/// The channels that a tensor carries along its channel dimension, in order.
///
/// A trace hands flows from layer to layer; what a layer does to channels is list arithmetic on them.
/// Cloning is cheap: lists are shared.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Flow {
    /// The model's input before anything has read it: the first reader fixes its width.
    Open(OpenFlow),
    /// A list of channels.
    Channels(Channels),
    /// Several tensors: a model with more than one input or output.
    Tuple(Vec<Flow>),
}

impl Flow {
    /// Several tensors.
    pub fn tuple(parts: impl Into<Vec<Flow>>) -> Self {
        Flow::Tuple(parts.into())
    }
}

/// An input of the model whose width is not known yet. All clones are fixed together.
#[derive(Debug, Clone)]
pub struct OpenFlow {
    pub(crate) index: usize,
}

/// An ordered list of channel ids.
///
/// Each position is *gated* or not. A gated position carries zeros once the scale and shift of its batch norms are zero,
/// so a reader loses nothing when the channel goes; an ungated one (a conv's raw output) may carry anything.
/// Gating belongs to the position and not to the id: one reader may see a residual stream raw, another behind its norm.
#[derive(Debug, Clone)]
pub struct Channels {
    pub(crate) ids: Rc<[ChannelId]>,
    pub(crate) gated: Rc<[bool]>,
    /// What gives these channels, as an error message would call it.
    pub(crate) source: Rc<str>,
    /// How many values a channel is.
    pub(crate) positions: Positions,
    /// What each position carries once the scales of its batch norms are zero and the shifts are not; only in a detailed trace.
    pub(crate) sent: Option<Rc<[Sent]>>,
    /// The layer whose whole output this is, as long as nothing has been done with it; only in a detailed trace.
    pub(crate) origin: Option<usize>,
    /// The layers that each position comes from; only in a charted trace.
    pub(crate) writers: Option<Writers>,
}

/// How many values a channel is, as far as that is known: one for each position of an image, which a flatten makes features of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    One,
    Several,
    /// Not the same for all channels.
    Mixed,
}

impl Channels {
    pub(crate) fn new(ids: Rc<[ChannelId]>, gated: bool, source: Rc<str>) -> Self {
        let gated = vec![gated; ids.len()].into();
        Self {
            ids,
            gated,
            source,
            positions: Positions::Several,
            sent: None,
            origin: None,
            writers: None,
        }
    }

    /// How many channels the flow has.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the flow has no channel.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The channels at these positions, in this order.
    pub(crate) fn select(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        let positions: Vec<usize> = positions.into_iter().collect();
        let (ids, gated): (Vec<_>, Vec<_>) =
            positions.iter().map(|&position| (self.ids[position], self.gated[position])).unzip();
        let sent = self
            .sent
            .as_ref()
            .map(|sent| positions.iter().map(|&position| sent[position].clone()).collect());
        let writers = self.writers.as_ref().map(|writers| writers.select(&positions));
        Self {
            ids: ids.into(),
            gated: gated.into(),
            source: Rc::clone(&self.source),
            positions: self.positions,
            sent,
            origin: None,
            writers,
        }
    }

    /// Each channel `times` in a row: a channel-major flatten of `times` positions.
    pub(crate) fn repeated(&self, times: usize) -> Self {
        if times == 1 {
            return self.clone();
        }
        self.select((0..self.len()).flat_map(|position| std::iter::repeat_n(position, times)))
    }
}

impl From<Channels> for Flow {
    fn from(channels: Channels) -> Self {
        Flow::Channels(channels)
    }
}
