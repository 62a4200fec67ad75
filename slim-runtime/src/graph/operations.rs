//! Operations on flows between layers, for a `trace` that is written by hand.

use std::rc::Rc;

use super::shape::{Shape, resized};
use super::value::{ElementCount, FlowKind, Form, Value};
use super::{Effect, Operator, Tracer};
use crate::error::WiringError;
use crate::{Activation, Error, Flow, Result};

impl Tracer {
    /// `a + b`, a residual connection: channels at one position stay or go together. Gated where
    /// both are.
    ///
    /// # Errors
    /// [`WiringError::Union`](crate::error::WiringError::Union) when widths differ,
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput) when neither width is
    /// known.
    pub fn add(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        self.join("+", a, b, Operator::sum("add"))
    }

    /// `a * b`, a gate: channels at one position stay or go together. Gated where either is. A flow
    /// of one channel multiplies all channels of the other, as libtorch broadcasts.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn multiply(&mut self, a: &Flow, b: &Flow) -> Result<Flow> {
        match (self.known_width(a), self.known_width(b)) {
            // The open flow may be as wide as the other, or one channel that is broadcast.
            (Some(2..), None) | (None, Some(2..)) => {
                Err(Error::Wiring(WiringError::OpenInput { path: self.path() }))
            }
            (Some(2..), Some(1)) => self.broadcast(a, b),
            (Some(1), Some(2..)) => self.broadcast(b, a),
            _ => self.join("*", a, b, Operator::product("multiply")),
        }
    }

    /// Multiplies every channel of `wide` by the one channel of `one` (a spatial gate), which is
    /// held.
    fn broadcast(&mut self, wide: &Flow, one: &Flow) -> Result<Flow> {
        let (wide, one) = (self.channels(wide, None)?, self.channels(one, None)?);
        let positions = broadcast_positions(wide.form.positions(), one.form.positions());
        let form = Form::Loose(positions);
        let operator = Operator::broadcast("multiply", self.path());
        Ok(self.operate(operator, &[&wide, &one], form).into())
    }

    /// Concatenation along the channel dimension.
    ///
    /// # Errors
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn concat(&mut self, parts: &[Flow]) -> Result<Flow> {
        let parts =
            parts.iter().map(|part| self.channels(part, None)).collect::<Result<Vec<_>>>()?;
        // Parts may have been flattened before, with different numbers of positions.
        let one = |part: &Value| part.form.positions() == ElementCount::One;
        let positions = match &parts[..] {
            [] => return Err(self.layer_error("nothing is concatenated".to_owned())),
            [part] => Form::Loose(part.form.positions()),
            parts if parts.iter().all(one) => Form::Loose(ElementCount::One),
            _ => Form::Loose(ElementCount::Mixed),
        };
        let parts: Vec<_> = parts.iter().collect();
        Ok(self.operate(Operator::concat("cat"), &parts, positions).into())
    }

    /// Part `index` of `flow.chunk(chunks, 1)`. `chunk` cuts into a fixed number of equal parts, so
    /// the parts must shrink alike: channels at one position of the parts stay or go together.
    /// [`nn::Split`](crate::nn::Split) stores its sizes and ties nothing.
    ///
    /// # Errors
    /// [`WiringError::Parts`](crate::error::WiringError::Parts) when the width is no multiple of
    /// `chunks`, [`WiringError::Part`](crate::error::WiringError::Part) when there is no such part,
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn chunk(&mut self, flow: &Flow, chunks: usize, index: usize) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        let size = self.part_size("chunk", &value, chunks)?;
        if index >= chunks {
            return Err(Error::Wiring(WiringError::Part {
                path: self.path(),
                index,
                found: chunks,
            }));
        }
        let select = Operator::select("chunk", index * size..(index + 1) * size).tied(size);
        let form = Form::Loose(value.form.positions());
        Ok(self.operate(select, &[&value], form).into())
    }

    /// A channel shuffle by `view` and `transpose` (ShuffleNet): `groups` equal parts, interleaved.
    /// The parts must shrink alike, as in [`chunk`](Self::chunk).
    /// [`nn::Shuffle`](crate::nn::Shuffle) stores its order and ties nothing.
    ///
    /// # Errors
    /// [`WiringError::Parts`](crate::error::WiringError::Parts) when the width is no multiple of
    /// `groups`, [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn shuffle(&mut self, flow: &Flow, groups: usize) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        let size = self.part_size("shuffle", &value, groups)?;
        let select = Operator::select("shuffle", shuffled(value.len(), groups)).tied(size);
        let form = Form::Loose(value.form.positions());
        Ok(self.operate(select, &[&value], form).into())
    }

    /// `flow.pixel_shuffle(factor)`: each block of `factor`² channels becomes one channel, so a
    /// block stays or goes as a whole. Gated where the whole block is.
    ///
    /// # Errors
    /// [`WiringError::Blocks`](crate::error::WiringError::Blocks) when the width is no multiple of
    /// `factor`², [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn pixel_shuffle(&mut self, flow: &Flow, factor: usize) -> Result<Flow> {
        self.join_blocks("pixel_shuffle", flow, factor.saturating_mul(factor))
    }

    /// A flatten: each channel becomes `positions` features in a row. Call it where the result is
    /// read by something other than a linear layer, or is joined with other features. A linear
    /// layer behind a flatten computes the number of positions itself.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) for no or too many positions,
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn flatten(&mut self, flow: &Flow, positions: usize) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        // The largest number of channel ids.
        if positions == 0 || value.len().saturating_mul(positions) > u32::MAX as usize {
            let reason = format!("{positions} positions of each channel cannot be flattened");
            return Err(self.layer_error(reason));
        }
        let each = (0..value.len()).flat_map(|position| std::iter::repeat_n(position, positions));
        let flatten = Operator::select("flatten", each);
        let flattened = self.operate(flatten, &[&value], Form::Loose(ElementCount::One));
        Ok(Value { source: self.source(), ..flattened }.into())
    }

    /// Repeats each channel `times` in a row: a channel-major flatten of `times` positions.
    pub(super) fn repeat(&mut self, value: Value, times: usize) -> Value {
        if times == 1 {
            return value;
        }
        let each = (0..value.len()).flat_map(|position| std::iter::repeat_n(position, times));
        let form = value.form.clone();
        self.operate(Operator::select("flatten", each), &[&value], form)
    }

    /// A `view` of `[N, C · positions]` as `[N, C, …]` (a decoder's first image): `positions`
    /// features in a row become one channel, so they stay or go together. Gated where all of them
    /// are.
    ///
    /// # Errors
    /// [`WiringError::Blocks`](crate::error::WiringError::Blocks) when the width is no multiple of
    /// `positions`, [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn unflatten(&mut self, flow: &Flow, positions: usize) -> Result<Flow> {
        self.join_blocks("unflatten", flow, positions)
    }

    /// A `view` or `expand` of `[N, C]` to `[N, C, H, W]`: each channel then has several positions,
    /// and a flatten behind it makes several features of each channel.
    ///
    /// # Errors
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn expand(&mut self, flow: &Flow) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        Ok(Value { form: Form::Loose(ElementCount::Several), ..value }.into())
    }

    /// An activation that does not map zero to zero (a sigmoid). Its output is ungated, so channels
    /// that a layer reads from it are held.
    ///
    /// # Errors
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple),
    /// [`WiringError::OpenInput`](crate::error::WiringError::OpenInput).
    pub fn ungate(&mut self, flow: &Flow) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        Ok(self.each(&value, Operator::ungated("ungate")))
    }

    /// Applies an activation that maps zero to zero; for any other, call [`ungate`](Self::ungate).
    /// Only [absorption](crate::Slimming::absorb) needs this call.
    ///
    /// The call must name everything that happens to channels from this part's batch norms to here.
    /// Channels from batch norms of other parts are named by the traces of those parts.
    ///
    /// # Errors
    /// None at present.
    pub fn activation(&mut self, flow: &Flow, activation: Activation) -> Result<Flow> {
        let changes = activation != Activation::Identity;
        let map = Rc::new(move |values: &[f64]| activation.apply(values));
        let effect = Effect::Map { map, scope_start: self.scope_start(), changes };
        let operator = Operator::each(activation.name(), effect);
        self.each_of(flow, &if changes { operator } else { operator.affine() })
    }

    /// Applies an operation that keeps channels as they are and maps zero to zero; nothing else is
    /// known about it. `#[prune(elementwise)]` calls this.
    ///
    /// # Errors
    /// None at present.
    pub fn elementwise(&mut self, flow: &Flow) -> Result<Flow> {
        let effect = Effect::Unnamed { layers: self.recording.layers.len() };
        self.each_of(flow, &Operator::each("elementwise", effect))
    }

    /// A pool over the dimensions behind the channels. `resize` takes the number of a dimension,
    /// from 0, and its size, and returns the new size.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when a window does not fit.
    pub(crate) fn pool(
        &mut self,
        flow: &Flow,
        operator: Operator,
        resize: impl Fn(usize, i64) -> Option<i64>,
    ) -> Result<Flow> {
        let Some(value) = flow.value() else { return Ok(flow.clone()) };
        let form = match &value.form {
            Form::Dims(shape) => {
                Form::Dims(resized(shape, 2, resize).ok_or_else(|| self.too_small(shape))?)
            }
            loose => loose.clone(),
        };
        Ok(self.operate(operator, &[value], form).into())
    }

    /// Applies an operation to a tensor, or to each of several tensors. An input that nothing has
    /// read yet stays open.
    pub(crate) fn each_of(&mut self, flow: &Flow, operator: &Operator) -> Result<Flow> {
        match &flow.0 {
            FlowKind::Value(value) => Ok(self.each(value, operator.clone())),
            FlowKind::Tuple(parts) => {
                let parts = parts.iter().map(|part| self.each_of(part, operator));
                parts.collect::<Result<Vec<_>>>().map(Flow::tuple)
            }
            FlowKind::Open(_) => {
                // The operation's numbers may depend on a number of channels, so they are recorded
                // for comparison all the same.
                if !self.numbers.is_empty() || !self.contents.is_empty() {
                    self.constant(Operator::constant(operator.name), 0, Shape::new([]));
                }
                Ok(flow.clone())
            }
        }
    }

    /// Applies an operation that keeps channels, positions and their name in error messages.
    fn each(&mut self, value: &Value, operator: Operator) -> Flow {
        self.operate(operator, &[value], value.form.clone()).into()
    }

    /// Joins each block of channels in a row into one channel.
    fn join_blocks(&mut self, operation: &'static str, flow: &Flow, block: usize) -> Result<Flow> {
        let value = self.channels(flow, None)?;
        if block == 0 || !value.len().is_multiple_of(block) {
            let (path, source_name, width) = (self.path(), value.source.to_string(), value.len());
            return Err(Error::Wiring(WiringError::Blocks {
                path,
                operation,
                source_name,
                width,
                block,
            }));
        }
        let form = Form::Loose(ElementCount::Several);
        Ok(self.operate(Operator::blocks(operation, block), &[&value], form).into())
    }

    pub(crate) fn join(
        &mut self,
        symbol: &'static str,
        a: &Flow,
        b: &Flow,
        operator: Operator,
    ) -> Result<Flow> {
        let width =
            |cx: &mut Self, flow: &Flow| cx.channels(flow, None).ok().map(|value| value.len());
        let known = width(self, a).or_else(|| width(self, b));
        let (a, b) = (self.channels(a, known)?, self.channels(b, known)?);
        if a.len() != b.len() {
            let named = |value: &Value| (value.source.to_string(), value.len());
            let (left, right) = (named(&a), named(&b));
            return Err(Error::Wiring(WiringError::Union {
                path: self.path(),
                operator: symbol,
                left,
                right,
            }));
        }
        let (one, other) = (a.form.positions(), b.form.positions());
        let form = Form::Loose(if one == ElementCount::One { other } else { one });
        Ok(self.operate(operator, &[&a, &b], form).into())
    }

    /// The width of each of `parts` equal parts.
    pub(crate) fn part_size(
        &self,
        operation: &'static str,
        value: &Value,
        parts: usize,
    ) -> Result<usize> {
        if parts == 0 || value.len() == 0 || !value.len().is_multiple_of(parts) {
            let (path, source_name, width) = (self.path(), value.source.to_string(), value.len());
            return Err(Error::Wiring(WiringError::Parts {
                path,
                operation,
                source_name,
                width,
                parts,
            }));
        }
        Ok(value.len() / parts)
    }
}

/// How many values each channel has after two flows are joined position by position. One value is
/// broadcast.
fn broadcast_positions(a: ElementCount, b: ElementCount) -> ElementCount {
    match (a, b) {
        (ElementCount::One, other) | (other, ElementCount::One) => other,
        (a, b) if a == b => a,
        _ => ElementCount::Mixed,
    }
}

/// For each channel of a shuffle's output, its position in the input.
pub(crate) fn shuffled(width: usize, groups: usize) -> impl Iterator<Item = usize> {
    let size = width / groups;
    (0..size).flat_map(move |position| (0..groups).map(move |group| group * size + position))
}
