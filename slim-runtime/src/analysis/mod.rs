//! Passes over a graph: each reads it and has a result of its own.

mod constants;
pub(crate) mod cost;
mod coupling;
pub mod dependencies;
mod folding;
mod gating;
mod producers;

use std::ops::Deref;
use std::rc::Rc;

use tch::Tensor;

use crate::graph::{ChannelId, KeepReason, Recording, Tracer};
use crate::{Error, Prunable, Result, symbolic};
pub(crate) use constants::{ConstValue, constants};
pub(crate) use coupling::UnionFind;
pub(crate) use folding::{Neighbours, neighbours};
pub use gating::Masking;
pub(crate) use producers::{Producers, producers};

/// The channel dependencies of a whole model.
pub(crate) fn trace<M: Prunable + ?Sized>(model: &M, masking: Masking) -> Result<Graph> {
    trace_on(model, None, masking)
}

/// The same, where the shapes of its inputs are known: channels and positions, without samples.
pub(crate) fn trace_on<M: Prunable + ?Sized>(
    model: &M,
    shapes: Option<&[Vec<i64>]>,
    masking: Masking,
) -> Result<Graph> {
    let recording = symbolic::record(model, shapes, false)?;
    match recording.deployed {
        Some(path) => Err(Error::Deployed { path }),
        None => Ok(Graph::new(recording, masking)),
    }
}

/// The tensors of a model by path, and whether these are all: a model that cannot be traced to the
/// end has shown some of them.
pub(crate) fn tensors<M: Prunable + ?Sized>(model: &M) -> (Vec<(String, Tensor)>, Result<()>) {
    let mut cx = Tracer::default();
    let input = cx.open();
    let traced = model.trace(&mut cx, input).map(drop);
    (cx.tensors(), traced)
}

/// The channel dependencies of a model: its graph, and which channels may be removed.
pub(crate) struct Graph {
    recording: Recording,
    /// The class of each channel id, named by the class's first id. Channels of one class stay or
    /// go together.
    pub(crate) class: Vec<ChannelId>,
    /// By class: why none of its channels may be removed.
    pub(crate) held: Vec<Option<Rc<KeepReason>>>,
}

impl Graph {
    pub(crate) fn new(recording: Recording, masking: Masking) -> Self {
        let class = coupling::classes(&recording);
        let held = gating::holds(&recording, &class, masking);
        Self { recording, class, held }
    }

    pub(crate) fn class(&self, id: ChannelId) -> usize {
        self.class[id as usize] as usize
    }
}

impl Deref for Graph {
    type Target = Recording;

    fn deref(&self) -> &Recording {
        &self.recording
    }
}
