//! Passes over a graph. Each pass reads the graph and returns a result of its own.

mod constants;
pub(crate) mod cost;
mod coupling;
pub mod dependencies;
mod folding;
mod gating;
mod isomorphism;
pub(crate) mod latency;
pub(crate) mod places;
mod producers;

use std::ops::Deref;
use std::rc::Rc;

use tch::Tensor;

use crate::error::CheckError;
use crate::graph::{ChannelId, KeepReason, Recording, Tracer};
use crate::{Error, Prunable, Result, symbolic};
pub(crate) use constants::{ConstValue, constants};
pub(crate) use coupling::UnionFind;
pub(crate) use folding::{Consumer, Neighbours, consumer, neighbours};
pub use gating::Masking;
pub(crate) use isomorphism::classes;
pub(crate) use producers::{Producer, Producers, producers};

/// The graph and the channel dependencies of a whole model.
pub(crate) fn trace<M: Prunable + ?Sized>(model: &M, masking: Masking) -> Result<Graph> {
    trace_on(model, None, masking)
}

/// Like [`trace`], for inputs of known shapes: channels and positions, without samples.
pub(crate) fn trace_on<M: Prunable + ?Sized>(
    model: &M,
    shapes: Option<&[Vec<i64>]>,
    masking: Masking,
) -> Result<Graph> {
    let recording = symbolic::record(model, shapes, false)?;
    match recording.deployed {
        Some(path) => Err(Error::Check(CheckError::Deployed { path })),
        None => Ok(Graph::new(recording, masking)),
    }
}

/// The tensors of a model by path. The result is an error if the trace failed; the list is then
/// incomplete.
pub(crate) fn tensors<M: Prunable + ?Sized>(model: &M) -> (Vec<(String, Tensor)>, Result<()>) {
    let mut cx = Tracer::default();
    let input = cx.open();
    let traced = model.trace(&mut cx, input).map(drop);
    (cx.tensors(), traced)
}

/// The channel dependencies of a model: its graph, and which of its channels may be removed.
pub(crate) struct Graph {
    recording: Recording,
    /// The channel group of each channel id, named by its smallest id. The channels of a channel
    /// group stay or go together.
    pub(crate) channel_group: Vec<ChannelId>,
    /// By channel group: why its channels are held; `None` if they may be removed.
    pub(crate) held: Vec<Option<Rc<KeepReason>>>,
}

impl Graph {
    pub(crate) fn new(recording: Recording, masking: Masking) -> Self {
        let channel_group = coupling::channel_groups(&recording);
        let held = gating::holds(&recording, &channel_group, masking);
        Self { recording, channel_group, held }
    }

    pub(crate) fn channel_group(&self, id: ChannelId) -> usize {
        self.channel_group[id as usize] as usize
    }
}

impl Deref for Graph {
    type Target = Recording;

    fn deref(&self) -> &Recording {
        &self.recording
    }
}
