//! The reference's `channel_selection`.

use tch::Tensor;
use tch::nn::Module;

use super::positions::ChannelPositions;
use crate::graph::KeepReason;
use crate::{Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer};

/// Picks, from a residual or dense stream, the channels that the batch norm behind it keeps
/// (Network Slimming's `channel_selection`).
///
/// In a pre-activation network the stream keeps its width, and each block reads the part of it that
/// its own batch norm finds important. Put it in front of that batch norm. Until it is slimmed it
/// passes its input on. Its positions follow the input's device and are no parameter.
#[derive(Debug)]
pub struct ChannelSelect {
    /// How many channels the stream has.
    stream: i64,
    kept: ChannelPositions,
}

/// Selects from a stream of `channels` channels; all of them, at first.
pub fn channel_select(channels: i64) -> ChannelSelect {
    ChannelSelect { stream: channels, kept: ChannelPositions::new((0..channels).collect()) }
}

impl ChannelSelect {
    /// Positions in the stream of the channels that are picked.
    pub fn kept(&self) -> &[i64] {
        &self.kept.list
    }

    /// Picks these positions of the stream, in this order: to build a slimmed network again.
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) when a position is not in the stream.
    pub fn with_kept(mut self, kept: impl Into<Vec<i64>>) -> Result<Self> {
        let kept = kept.into();
        if let Some(position) = kept.iter().find(|position| !(0..self.stream).contains(position)) {
            let reason = format!("there is no channel {position} in a stream of {}", self.stream);
            return Err(crate::Error::Layer { path: "channel select".to_owned(), reason });
        }
        self.kept = ChannelPositions::new(kept);
        Ok(self)
    }
}

impl Module for ChannelSelect {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let all = self.kept.list.iter().copied().eq(0..self.stream);
        if all { xs.shallow_clone() } else { self.kept.gather(xs) }
    }
}

impl Prunable for ChannelSelect {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::ChannelSelect);
        let stream = layer.follow("stream", &input, self.stream)?;
        let by = layer.path();
        layer.hold(stream, KeepReason::Stream { by })?;
        // Channels of their own: the batch norm behind removes them here and nowhere else.
        let kept = layer.write("out", self.kept.list.len() as i64)?;
        layer.indices("kept", stream, kept)?;
        // What they carry is the stream's.
        layer.ungate(kept)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.indices("kept", &mut self.kept.list)?;
        self.kept.changed();
        Ok(())
    }
}
