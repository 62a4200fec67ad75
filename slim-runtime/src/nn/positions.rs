//! Stored channel positions and their index tensor.

use std::sync::{Mutex, PoisonError};

use tch::Tensor;

/// For each output channel, the position of its input channel.
#[derive(Debug)]
pub(crate) struct ChannelPositions {
    pub(crate) list: Vec<i64>,
    /// The positions as a tensor, cached on the device where it was used last.
    index: Mutex<Option<Tensor>>,
}

impl ChannelPositions {
    pub(crate) fn new(list: Vec<i64>) -> Self {
        Self { list, index: Mutex::new(None) }
    }

    /// Drops the index tensor, after the list has changed.
    pub(crate) fn changed(&mut self) {
        self.index = Mutex::new(None);
    }

    /// The channels of `[N, C, …]` at these positions.
    pub(crate) fn gather(&self, xs: &Tensor) -> Tensor {
        // A panicking thread leaves a complete tensor or `None`.
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |index: &&Tensor| {
            index.device() == xs.device() && index.size() == [self.list.len() as i64]
        };
        let made = match index.as_ref().filter(fits) {
            Some(made) => made.shallow_clone(),
            None => Tensor::from_slice(&self.list).to_device(xs.device()),
        };
        *index = Some(made.shallow_clone());
        drop(index);
        xs.index_select(1, &made)
    }
}
