//! Passes over a graph: each reads it and has a result of its own.

mod constants;
mod coupling;
mod folding;
mod gating;
mod producers;

use std::ops::Deref;
use std::rc::Rc;

use crate::criterion::Masking;
use crate::graph::{ChannelId, Recording};
use crate::plan::Hold;
pub(crate) use constants::{ConstValue, constants};
pub(crate) use coupling::UnionFind;
pub(crate) use folding::{Neighbours, neighbours};
pub(crate) use producers::{Producers, producers};

/// The channel dependencies of a model: its graph, and which channels may be removed.
pub(crate) struct Graph {
    recording: Recording,
    /// The class of each channel id, named by the class's first id. Channels of one class stay or go together.
    pub(crate) class: Vec<ChannelId>,
    /// By class: why none of its channels may be removed.
    pub(crate) held: Vec<Option<Rc<Hold>>>,
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
