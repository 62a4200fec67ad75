//! What a forward pass does with flows between layers.

use std::rc::Rc;

use super::Tracer;
use crate::flow::{Channels, Flow};
use crate::{Error, Result};

impl Tracer {
    /// `a + b`, a residual connection: channels at one position become one. Gated where both are.
    ///
    /// # Errors
    /// [`Error::Union`] when widths differ, [`Error::Tuple`], [`Error::OpenInput`] when neither width is known.
    pub fn add(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        self.join(a, b, |a, b| a && b)
    }

    /// `a * b`, a gate: channels at one position become one. Gated where either is.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn multiply(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        self.join(a, b, |a, b| a || b)
    }

    /// Concatenation along the channel dimension.
    ///
    /// # Errors
    /// [`Error::Tuple`], [`Error::OpenInput`].
    pub fn concat(&mut self, parts: &[Flow]) -> Result<Flow> {
        let parts = parts.iter().map(|part| self.channels(part, None)).collect::<Result<Vec<_>>>()?;
        Ok(Flow::Channels(Channels {
            ids: parts.iter().flat_map(|part| part.ids.iter().copied()).collect(),
            gated: parts.iter().flat_map(|part| part.gated.iter().copied()).collect(),
            source: self.source(),
        }))
    }

    fn join(&mut self, a: &Flow, b: &Flow, gate: impl Fn(bool, bool) -> bool) -> Result<Flow> {
        let width = |cx: &mut Self, flow: &Flow| cx.channels(flow, None).ok().map(|channels| channels.len());
        let known = width(self, a).or_else(|| width(self, b));
        let (a, b) = (self.channels(a, known)?, self.channels(b, known)?);
        if a.len() != b.len() {
            let named = |channels: &Channels| (channels.source.to_string(), channels.len());
            return Err(Error::Union { path: self.path(), left: named(&a), right: named(&b) });
        }
        for (&a, &b) in a.ids.iter().zip(b.ids.iter()) {
            self.classes.union(a, b);
        }
        let gated = a.gated.iter().zip(b.gated.iter()).map(|(&a, &b)| gate(a, b)).collect();
        Ok(Flow::Channels(Channels { ids: Rc::clone(&a.ids), gated, source: self.source() }))
    }

    /// What an error message calls the part that is being traced.
    pub(super) fn source(&self) -> Rc<str> {
        format!("`{}`", self.path()).into()
    }
}
