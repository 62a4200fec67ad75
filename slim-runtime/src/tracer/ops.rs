//! What a forward pass does with flows between layers.

use std::rc::Rc;

use super::{Sent, Tracer, Writers};
use crate::flow::{Channels, Flow, Positions};
use crate::plan::Hold;
use crate::{Error, Result};

impl Tracer {
    /// `a + b`, a residual connection: channels at one position become one. Gated where both are.
    ///
    /// # Errors
    /// [`Error::Union`] when widths differ, [`Error::Tuple`], [`Error::OpenInput`] when neither width is known.
    pub fn add(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        self.join("+", a, b, |a, b| a && b, Sent::sum)
    }

    /// `a * b`, a gate: channels at one position become one. Gated where either is. One channel multiplies all, as libtorch broadcasts.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn multiply(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        match (self.known_width(a), self.known_width(b)) {
            // As wide as the other, or one channel for all of it: who knows.
            (Some(2..), None) | (None, Some(2..)) => Err(Error::OpenInput { path: self.path() }),
            (Some(2..), Some(1)) => self.broadcast(a, b),
            (Some(1), Some(2..)) => self.broadcast(b, a),
            _ => self.join("*", a, b, |a, b| a || b, Sent::product),
        }
    }

    /// Every channel of `wide` times the one of `one` (a spatial gate), which stays.
    fn broadcast(&mut self, wide: &Flow, one: &Flow) -> Result<Flow> {
        let (wide, one) = (self.channels(wide, None)?, self.channels(one, None)?);
        self.hold_ids(one.ids.to_vec(), Hold::Broadcast { by: self.path() });
        let positions = positions(&wide, &one);
        // No gate: the one channel stays, so its scale never takes the others to zero.
        let sent = self.unknown_but_zero(wide.sent.as_deref());
        let writers = join_writers(&wide, &one.select(std::iter::repeat_n(0, wide.len())));
        Ok(Flow::Channels(Channels { source: self.source(), positions, sent, writers, ..wide }))
    }

    /// Concatenation along the channel dimension.
    ///
    /// # Errors
    /// [`Error::Tuple`], [`Error::OpenInput`].
    pub fn concat(&mut self, parts: &[Flow]) -> Result<Flow> {
        let parts =
            parts.iter().map(|part| self.channels(part, None)).collect::<Result<Vec<_>>>()?;
        // Parts may have been flattened before, of unlike many positions.
        let positions = match &parts[..] {
            [part] => part.positions,
            parts if parts.iter().all(|part| part.positions == Positions::One) => Positions::One,
            _ => Positions::Mixed,
        };
        Ok(Flow::Channels(Channels {
            ids: parts.iter().flat_map(|part| part.ids.iter().copied()).collect(),
            gated: parts.iter().flat_map(|part| part.gated.iter().copied()).collect(),
            source: self.source(),
            positions,
            sent: self.concatenated(&parts),
            origin: None,
            writers: self.writers_of(&parts),
        }))
    }

    /// Part `index` of `flow.chunk(chunks, 1)`. The cut is made by count, so the parts must shrink alike: channels at one position of them become one.
    /// [`nn::Split`](crate::nn::Split) stores its sizes and ties nothing.
    ///
    /// # Errors
    /// [`Error::Parts`] when the width is no multiple of `chunks`, [`Error::Part`] when there is no such part, [`Error::Tuple`], [`Error::OpenInput`].
    pub fn chunk(&mut self, flow: &Flow, chunks: usize, index: usize) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        let size = self.part_size("chunk", &channels, chunks)?;
        if index >= chunks {
            return Err(Error::Part { path: self.path(), index, found: chunks });
        }
        self.tie_parts(&channels, size);
        Ok(channels.select(index * size..(index + 1) * size).into())
    }

    /// A channel shuffle by `view` and `transpose` (ShuffleNet): `groups` equal parts, interleaved. The cut is made by count, as in [`chunk`](Self::chunk);
    /// [`nn::Shuffle`](crate::nn::Shuffle) stores its order and ties nothing.
    ///
    /// # Errors
    /// [`Error::Parts`] when the width is no multiple of `groups`, [`Error::Tuple`], [`Error::OpenInput`].
    pub fn shuffle(&mut self, flow: &Flow, groups: usize) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        let size = self.part_size("shuffle", &channels, groups)?;
        self.tie_parts(&channels, size);
        Ok(channels.select(shuffled(channels.len(), groups)).into())
    }

    /// `flow.pixel_shuffle(factor)`: each block of `factor`² channels becomes one, so a block stays or goes as a whole. Gated where all of the block is.
    ///
    /// # Errors
    /// [`Error::Blocks`] when the width is no multiple of `factor`², [`Error::Tuple`], [`Error::OpenInput`].
    pub fn pixel_shuffle(&mut self, flow: &Flow, factor: usize) -> Result<Flow> {
        self.join_blocks("pixel_shuffle", flow, factor.saturating_mul(factor))
    }

    /// A flatten of `positions` positions that something reads that is no linear layer, or that is joined with other features: each channel is then
    /// `positions` features in a row. A linear layer behind a flatten finds out by itself.
    ///
    /// # Errors
    /// [`Error::Layer`] for no or too many positions, [`Error::Tuple`], [`Error::OpenInput`].
    pub fn flatten(&mut self, flow: &Flow, positions: usize) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        // As many as channel ids can number.
        if positions == 0 || channels.len().saturating_mul(positions) > u32::MAX as usize {
            return Err(self.layer_error(format!(
                "{positions} positions of each channel cannot be flattened"
            )));
        }
        let channels = channels.repeated(positions);
        Ok(Flow::Channels(Channels {
            positions: Positions::One,
            source: self.source(),
            ..channels
        }))
    }

    /// `[N, C · positions]` made `[N, C, …]` by `view` (a decoder's first image): `positions` features in a row become one channel, so they stay or go as a
    /// whole. Gated where all of them are.
    ///
    /// # Errors
    /// [`Error::Blocks`] when the width is no multiple of `positions`, [`Error::Tuple`], [`Error::OpenInput`].
    pub fn unflatten(&mut self, flow: &Flow, positions: usize) -> Result<Flow> {
        self.join_blocks("unflatten", flow, positions)
    }

    /// `[N, C]` made `[N, C, H, W]` by `view` or `expand`: each channel has several positions, so a flatten behind it gives several features of it.
    ///
    /// # Errors
    /// [`Error::Tuple`], [`Error::OpenInput`].
    pub fn expand(&mut self, flow: &Flow) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        Ok(Flow::Channels(Channels { positions: Positions::Several, ..channels }))
    }

    /// What an activation gives that does not map zero to zero (a sigmoid): not zero where the channel is, so who reads it keeps it.
    ///
    /// # Errors
    /// [`Error::Tuple`], [`Error::OpenInput`].
    pub fn ungate(&mut self, flow: &Flow) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        let sent = self.unknown_but_zero(channels.sent.as_deref());
        Ok(Flow::Channels(Channels { gated: vec![false; channels.len()].into(), sent, ..channels }))
    }

    /// Tensor `index` of several.
    ///
    /// # Errors
    /// [`Error::Part`] when the flow is one tensor, or has fewer.
    pub fn part(&mut self, flow: &Flow, index: usize) -> Result<Flow> {
        match flow {
            Flow::Tuple(parts) if index < parts.len() => Ok(parts[index].clone()),
            Flow::Tuple(parts) => Err(Error::Part { path: self.path(), index, found: parts.len() }),
            _ => Err(Error::Part { path: self.path(), index, found: 1 }),
        }
    }

    /// The input of a model that takes `count` tensors: as many open flows where the model is the root, else the tuple that it is given.
    ///
    /// # Errors
    /// [`Error::Part`] when it is given another number of tensors.
    pub fn inputs(&mut self, input: &Flow, count: usize) -> Result<Flow> {
        match input {
            Flow::Open(open) if self.inputs[open.index].is_none() => {
                Ok(Flow::Tuple((0..count).map(|_| self.open()).collect()))
            }
            Flow::Tuple(parts) if parts.len() == count => Ok(input.clone()),
            Flow::Tuple(parts) => {
                Err(Error::Part { path: self.path(), index: count - 1, found: parts.len() })
            }
            _ => Err(Error::Part { path: self.path(), index: count - 1, found: 1 }),
        }
    }

    /// Each block of channels in a row becomes one channel.
    fn join_blocks(&mut self, operation: &'static str, flow: &Flow, block: usize) -> Result<Flow> {
        let channels = self.channels(flow, None)?;
        if block == 0 || !channels.len().is_multiple_of(block) {
            return Err(Error::Blocks {
                path: self.path(),
                operation,
                source_name: channels.source.to_string(),
                width: channels.len(),
                block,
            });
        }
        let blocks = channels.ids.chunks(block).zip(channels.gated.chunks(block));
        let blocks = blocks.map(|(ids, gated)| {
            ids.iter().for_each(|&id| self.classes.union(ids[0], id));
            (ids[0], gated.iter().all(|&gated| gated))
        });
        let (ids, gated): (Vec<_>, Vec<_>) = blocks.unzip();
        let sent = self.sent_by_blocks(&channels, block);
        Ok(Flow::Channels(Channels {
            ids: ids.into(),
            gated: gated.into(),
            source: self.source(),
            positions: Positions::Several,
            sent,
            origin: None,
            writers: channels.writers.as_ref().map(|writers| writers.join_blocks(block)),
        }))
    }

    fn join(
        &mut self,
        operator: &'static str,
        a: &Flow,
        b: &Flow,
        gate: impl Fn(bool, bool) -> bool,
        sent: impl Fn(&Sent, &Sent) -> Sent,
    ) -> Result<Flow> {
        let width = |cx: &mut Self, flow: &Flow| {
            cx.channels(flow, None).ok().map(|channels| channels.len())
        };
        let known = width(self, a).or_else(|| width(self, b));
        let (a, b) = (self.channels(a, known)?, self.channels(b, known)?);
        if a.len() != b.len() {
            let named = |channels: &Channels| (channels.source.to_string(), channels.len());
            return Err(Error::Union {
                path: self.path(),
                operator,
                left: named(&a),
                right: named(&b),
            });
        }
        for (&a, &b) in a.ids.iter().zip(b.ids.iter()) {
            self.classes.union(a, b);
        }
        let gated = a.gated.iter().zip(b.gated.iter()).map(|(&a, &b)| gate(a, b)).collect();
        Ok(Flow::Channels(Channels {
            ids: Rc::clone(&a.ids),
            gated,
            source: self.source(),
            positions: if a.positions == Positions::One { b.positions } else { a.positions },
            sent: self.joined(&a, &b, sent),
            origin: None,
            writers: join_writers(&a, &b),
        }))
    }

    /// How wide each of `parts` equal parts is.
    pub(super) fn part_size(
        &self,
        operation: &'static str,
        channels: &Channels,
        parts: usize,
    ) -> Result<usize> {
        if parts == 0 || channels.is_empty() || !channels.len().is_multiple_of(parts) {
            return Err(self.parts_error(operation, channels, parts));
        }
        Ok(channels.len() / parts)
    }

    /// Makes channels one that are at the same position of parts of this size.
    pub(super) fn tie_parts(&mut self, channels: &Channels, size: usize) {
        for (position, &id) in channels.ids.iter().enumerate() {
            self.classes.union(channels.ids[position % size], id);
        }
    }

    fn parts_error(&self, operation: &'static str, channels: &Channels, parts: usize) -> Error {
        Error::Parts {
            path: self.path(),
            operation,
            source_name: channels.source.to_string(),
            width: channels.len(),
            parts,
        }
    }

    /// What an error message calls the part that is being traced.
    pub(super) fn source(&self) -> Rc<str> {
        format!("`{}`", self.path()).into()
    }
}

/// Who gives the channels of two flows that are joined position by position.
fn join_writers(a: &Channels, b: &Channels) -> Option<Writers> {
    a.writers.as_ref().zip(b.writers.as_ref()).map(|(a, b)| a.join(b))
}

/// How many values a channel of two flows is that are joined position by position. One value is broadcast.
fn positions(a: &Channels, b: &Channels) -> Positions {
    match (a.positions, b.positions) {
        (Positions::One, other) | (other, Positions::One) => other,
        (a, b) if a == b => a,
        _ => Positions::Mixed,
    }
}

/// Where each channel of a shuffle comes from.
pub(crate) fn shuffled(width: usize, groups: usize) -> impl Iterator<Item = usize> {
    let size = width / groups;
    (0..size).flat_map(move |position| (0..groups).map(move |group| group * size + position))
}
