//! Which layers channels come from: in a trace for dependencies alone.

use std::rc::Rc;

use super::{LayerTracer, Tracer};
use crate::Result;
use crate::flow::{ChannelId, Channels, Flow};

/// By channel of a flow: the layers that give it, ascending. Several where it is a sum, none for an input of the model.
#[derive(Debug, Clone)]
pub(crate) struct Writers(Rc<[Rc<[usize]>]>);

impl Writers {
    fn all(layers: &[usize], width: usize) -> Self {
        let layers: Rc<[usize]> = layers.into();
        Self(std::iter::repeat_n(layers, width).collect())
    }

    /// Those of the channels at these positions.
    pub(crate) fn select(&self, positions: &[usize]) -> Self {
        Self(positions.iter().map(|&position| Rc::clone(&self.0[position])).collect())
    }

    pub(super) fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(other.0.iter()).map(|(a, b)| union([a, b])).collect())
    }

    /// Each block of channels in a row becomes one channel.
    pub(super) fn join_blocks(&self, block: usize) -> Self {
        Self(self.0.chunks(block).map(union).collect())
    }

    fn concat<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        Self(parts.flat_map(|part| part.0.iter().cloned()).collect())
    }

    /// The layers that give each channel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.0.iter().map(Rc::as_ref)
    }
}

fn union<'a>(sets: impl IntoIterator<Item = &'a Rc<[usize]>>) -> Rc<[usize]> {
    let mut all: Vec<usize> = sets.into_iter().flat_map(|set| set.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}

/// Channels that arrive at a layer, and where they come from.
pub(crate) struct Arrival {
    pub(crate) ids: Rc<[ChannelId]>,
    pub(crate) writers: Writers,
}

impl Tracer {
    /// One that records which layers channels come from.
    pub(crate) fn charted() -> Self {
        Tracer { charted: true, ..Tracer::default() }
    }

    /// What a new input of the model comes from.
    pub(super) fn no_writers(&self, width: usize) -> Option<Writers> {
        self.charted.then(|| Writers::all(&[], width))
    }

    pub(super) fn writers_of(&self, parts: &[Channels]) -> Option<Writers> {
        self.charted.then(|| Writers::concat(parts.iter().filter_map(|part| part.writers.as_ref())))
    }
}

impl LayerTracer<'_> {
    /// The channels of a flow that must have `width` of them, which the layer is given.
    pub(super) fn given(&mut self, input: &Flow, width: i64) -> Result<Channels> {
        let channels = self.cx.resolve(input, width)?;
        self.arrived(&channels);
        Ok(channels)
    }

    pub(super) fn arrived(&mut self, channels: &Channels) {
        if let Some(writers) = channels.writers.clone() {
            self.node().details.arrivals.push(Arrival { ids: Rc::clone(&channels.ids), writers });
        }
    }

    /// Channels that leave the layer come from it, whatever they came from before.
    pub(super) fn left(&self, channels: Channels) -> Channels {
        let writers = self.cx.charted.then(|| Writers::all(&[self.index], channels.len()));
        Channels { writers, ..channels }
    }
}
