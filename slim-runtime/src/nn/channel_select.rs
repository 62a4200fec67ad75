//! Channel selection, as `channel_selection` of the reference implementation of Network Slimming.

use tch::Tensor;
use tch::nn::Module;

use super::positions::ChannelPositions;
use crate::graph::{KeepReason, arguments};
use crate::{Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer};

/// Selects, from a residual or dense stream, the channels that the batch norm behind it keeps
/// (Network Slimming's `channel_selection`).
///
/// In a pre-activation network the stream keeps its width, and each block reads the channels that
/// its own batch norm keeps. Put the selection in front of that batch norm. Before slimming it
/// selects all channels and returns its input. The positions are not a parameter; they follow the
/// input's device.
#[derive(Debug)]
pub struct ChannelSelect {
    /// Number of channels of the stream.
    stream: i64,
    kept: ChannelPositions,
}

/// A selection from a stream of `channels` channels, at first of all of them.
pub fn channel_select(channels: i64) -> ChannelSelect {
    ChannelSelect { stream: channels, kept: ChannelPositions::new((0..channels).collect()) }
}

impl ChannelSelect {
    /// Positions in the stream of the selected channels.
    pub fn kept(&self) -> &[i64] {
        &self.kept.list
    }

    /// Selects these positions of the stream, in this order: to build a slimmed network again.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when a position is not in the
    /// stream.
    pub fn with_kept(mut self, kept: impl Into<Vec<i64>>) -> Result<Self> {
        let kept = kept.into();
        if let Some(position) = kept.iter().find(|position| !(0..self.stream).contains(position)) {
            let reason = format!("there is no channel {position} in a stream of {}", self.stream);
            return Err(crate::Error::Wiring(crate::error::WiringError::Layer {
                path: "channel select".to_owned(),
                reason,
            }));
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
        // The selected channels are new ones: when the batch norm behind removes them, the stream
        // keeps its own.
        let kept = layer.write("out", self.kept.list.len() as i64)?;
        layer.indices("kept", stream, kept)?;
        // Their values are the stream's, which no batch norm gates here.
        let selected = layer.ungate(kept)?;
        cx.call("channels at", arguments![&input, &self.kept.list], &selected);
        Ok(selected)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.indices("kept", &mut self.kept.list)?;
        self.kept.changed();
        Ok(())
    }
}
