//! Recording operations: what the symbolic pass and a hand-written `trace` add to a recording.

use std::rc::Rc;

use smallvec::smallvec;

use super::shape::{self, Factor, Shape};
use super::value::{ChannelId, Form, Value, ValueId};
use super::{Gate, Operation, Operator, Sources, Step, Tracer};
use crate::graph::KeepReason;
use crate::{Flow, Result};

/// More channels than any layer has. Limits the memory that a literal in `forward` can cost.
const MOST_CHANNELS: usize = 1 << 24;

impl Tracer {
    /// The reason to hold channels from which this part of a `forward` computes something together.
    pub(crate) fn mixed(&self, what: &str) -> KeepReason {
        let at = self.at.map(|at| format!(" ({}:{}:{})", at.file(), at.line(), at.column()));
        KeepReason::Together { by: self.path(), what: format!("{what}{}", at.unwrap_or_default()) }
    }

    /// The dimensions of an image `[N, C, …]` after its positions are resized.
    pub(crate) fn image(
        &self,
        image: &Shape,
        resize: impl Fn(i64) -> Option<i64>,
    ) -> Result<Shape> {
        if image.channel_dim() != Some(1) {
            let image = image.describe();
            return Err(self.layer_error(format!(
                "it takes an image [N, C, …], and is given {image}; `permute` it before"
            )));
        }
        shape::resized(image, 2, |_, size| resize(size)).ok_or_else(|| self.too_small(image))
    }

    /// Records a tensor without channels.
    pub(crate) fn constant_of(&mut self, name: &'static str, form: Form) -> Value {
        self.record(Operator::constant(name), Vec::new(), Rc::new([]), form, self.source())
    }

    /// Records a sum over the channels of a value.
    pub(crate) fn sums_over(&mut self, value: &Value) {
        let by = self.path();
        self.recording.step(Step::Sum(value.id, by));
    }

    /// Checks a number of new channels that is a literal in `forward`.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) for more channels than any network
    /// has, and for a negative number.
    pub(crate) fn count(&self, name: &str, count: i64) -> Result<usize> {
        let known = usize::try_from(count).ok().filter(|&count| count <= MOST_CHANNELS);
        known.ok_or_else(|| {
            self.layer_error(if count < 0 {
                format!("`{name}` is given the number {count}; give at least 1")
            } else {
                format!("`{name}` makes more channels than any network has")
            })
        })
    }

    /// Whether a constant is zero.
    pub(crate) fn is_zero(&self, value: &Value) -> bool {
        self.recording.steps.iter().any(|step| {
            matches!(step, Step::Operation(operation)
                if operation.result == value.id && operation.operator.gate == Gate::Always)
        })
    }

    /// Records an operation that nothing is known about: its input is held, and its output, of
    /// these sizes, is a constant.
    pub(crate) fn opaque(&mut self, value: &Value, sizes: &[i64]) -> Result<Value> {
        let reason = self.mixed("an opaque operation");
        self.hold_ids(Rc::clone(&value.ids), reason);
        let [samples, channels, positions @ ..] = sizes else {
            let reason = format!(
                "an opaque operation gives a tensor of shape {sizes:?}, which has no channels; give it [N, C, …]"
            );
            return Err(self.layer_error(reason));
        };
        let count = self.count("opaque", *channels)?;
        let size = |size: i64, assumed| smallvec![Factor::Size { size, assumed }];
        let positions = positions.iter().map(|&positions| size(positions, true));
        let first = [size(*samples, true), smallvec![Factor::channels(count)]];
        let shape = Shape::new(first.into_iter().chain(positions));
        let made = self.constant(Operator::constant("opaque"), count, shape);
        let reason = self.mixed("an opaque operation");
        self.hold_ids(Rc::clone(&made.ids), reason);
        Ok(made)
    }

    /// Holds channels: they are never removed.
    pub(crate) fn hold_ids(&mut self, ids: Rc<[ChannelId]>, reason: KeepReason) {
        self.recording.step(Step::Hold(ids, reason));
    }

    /// Records a constant, with channels that no layer of the network makes.
    pub(crate) fn constant(&mut self, operator: Operator, count: usize, shape: Shape) -> Value {
        let ids = self.recording.fresh(count);
        let source = self.source();
        self.record(operator, Vec::new(), ids, Form::Dims(shape), source)
    }

    /// Records an operation, and returns its result.
    pub(crate) fn operate(&mut self, operator: Operator, operands: &[&Value], form: Form) -> Value {
        let first = &operands[0].ids;
        let ids = match &operator.sources {
            Sources::New | Sources::Same | Sources::Zip | Sources::Broadcast => Rc::clone(first),
            Sources::Concat => {
                operands.iter().flat_map(|operand| operand.ids.iter().copied()).collect()
            }
            Sources::Select(positions) => {
                positions.iter().map(|&position| first[position as usize]).collect()
            }
            Sources::Blocks(size) => first.iter().step_by(*size).copied().collect(),
        };
        // A result that only passes or selects channels keeps the name of its operand.
        let source = match &operator.sources {
            Sources::Same | Sources::Select(_) => Rc::clone(&operands[0].source),
            _ => self.source(),
        };
        let operands = operands.iter().map(|operand| operand.id).collect();
        self.record(operator, operands, ids, form, source)
    }

    pub(super) fn record(
        &mut self,
        operator: Operator,
        operands: Vec<ValueId>,
        ids: Rc<[ChannelId]>,
        form: Form,
        source: Rc<str>,
    ) -> Value {
        let path = self.path();
        let result = self.recording.value(Rc::clone(&ids));
        let (numbers, at) = (std::mem::take(&mut self.numbers), self.at);
        let sizes = std::mem::take(&mut self.sizes).into();
        let contents = std::mem::take(&mut self.contents).into();
        let result_sizes =
            form.shape().map(|shape| shape.other_sizes().collect()).unwrap_or_default();
        let operation = Operation {
            operator,
            operands,
            result,
            numbers,
            sizes,
            result_sizes,
            contents,
            path,
            at,
        };
        self.recording.step(Step::Operation(operation));
        Value { id: result, ids, source, form }
    }

    /// Lets a layer read `width` channels from a dimension of a constant: new channels, which no
    /// layer makes, and which are held. `None` if the flow is not a constant of that width.
    pub(super) fn constant_channels(
        &mut self,
        flow: &Flow,
        dim: usize,
        width: i64,
    ) -> Option<Value> {
        let value = flow.value().filter(|value| value.len() == 0)?;
        let shape = value.form.shape().filter(|shape| dim < shape.rank())?.clone();
        let count = usize::try_from(width).ok()?;
        if shape::size(&shape.dims()[dim]) != width || width == 0 {
            return None;
        }
        let form = Form::Dims(shape.with(dim, smallvec![Factor::channels(count)]));
        let (operands, ids) = (vec![value.id], self.recording.fresh(count));
        let source = Rc::clone(&value.source);
        let value = self.record(Operator::constant("constant"), operands, ids, form, source);
        let reason = self.mixed("no layer makes them");
        self.hold_ids(Rc::clone(&value.ids), reason);
        Some(value)
    }
}
