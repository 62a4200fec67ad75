//! A channel shuffle with a stored order.

use tch::Tensor;
use tch::nn::Module;

use super::positions::ChannelPositions;
use crate::graph::{arguments, shuffled};
use crate::{Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer};

/// The channel shuffle of ShuffleNet: interleaves `groups` equal parts of the channels. Slimming
/// updates the stored order, so each channel can be removed by itself. A shuffle by `view` and
/// `transpose` would have to lose the same channels in every part.
#[derive(Debug)]
pub struct Shuffle {
    order: ChannelPositions,
}

/// A shuffle of `channels` channels in `groups` parts. `channels` is a multiple of `groups`.
///
/// # Panics
/// When `channels` is not a multiple of `groups`, or `groups` is not positive.
pub fn shuffle(channels: i64, groups: i64) -> Shuffle {
    assert!(
        groups > 0 && channels % groups == 0,
        "{channels} channels cannot be shuffled in {groups} equal groups"
    );
    let order = shuffled(channels as usize, groups as usize).map(|position| position as i64);
    Shuffle { order: ChannelPositions::new(order.collect()) }
}

impl Shuffle {
    /// For each output channel, the position of its input channel.
    pub fn order(&self) -> &[i64] {
        &self.order.list
    }
}

impl Module for Shuffle {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.order.gather(xs)
    }
}

impl Prunable for Shuffle {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::Shuffle);
        let from = layer.follow("in", &input, self.order.list.len() as i64)?;
        let to =
            layer.select("out", from, self.order.list.iter().map(|&position| position as usize))?;
        layer.indices("order", from, to)?;
        let shuffled = layer.move_on(to)?;
        cx.call("channels at", arguments![&input, &self.order.list], &shuffled);
        Ok(shuffled)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.indices("order", &mut self.order.list)?;
        self.order.changed();
        Ok(())
    }
}
