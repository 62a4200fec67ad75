//! Values: what flows between layers. A value is a list of channel ids, and the dimensions that
//! hold them.

use std::rc::Rc;

use super::shape::Shape;

/// A channel of the network. Ids are dense, in the order in which a trace makes them.
pub(crate) type ChannelId = u32;

/// Position of a value in [`Recording::values`](super::Recording).
pub(crate) type ValueId = usize;

/// What flows between layers in a symbolic forward pass: a tensor's channels, several tensors, or
/// the model's input before anything has read it.
///
/// [`Prunable::trace`](crate::Prunable::trace) is given one and returns one; the methods of
/// [`Tracer`](crate::Tracer) and [`LayerTracer`](crate::LayerTracer) compute with them. Cloning is
/// cheap: lists are shared.
#[derive(Debug, Clone)]
pub struct Flow(pub(crate) FlowKind);

#[derive(Debug, Clone)]
pub(crate) enum FlowKind {
    /// The model's input of this number before anything has read it: the first reader fixes its
    /// width, for all clones.
    Open(usize),
    /// One tensor.
    Value(Value),
    /// Several tensors: a model with more than one input or output.
    Tuple(Vec<Flow>),
}

impl Flow {
    /// Several tensors.
    pub fn tuple(parts: impl Into<Vec<Flow>>) -> Self {
        Flow(FlowKind::Tuple(parts.into()))
    }

    /// The tensors of a [`tuple`](Self::tuple); one tensor is returned as it is.
    pub fn into_parts(self) -> Vec<Flow> {
        match self.0 {
            FlowKind::Tuple(parts) => parts,
            one => vec![Flow(one)],
        }
    }

    /// The number of channels of one tensor; `None` for several tensors, and for an input whose
    /// width is not known yet.
    pub fn channels(&self) -> Option<usize> {
        self.value().map(Value::len)
    }

    pub(crate) fn value(&self) -> Option<&Value> {
        if let FlowKind::Value(value) = &self.0 { Some(value) } else { None }
    }
}

impl From<Value> for Flow {
    fn from(value: Value) -> Self {
        Flow(FlowKind::Value(value))
    }
}

/// The channels that a tensor carries, in order, and how its dimensions hold them.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) id: ValueId,
    /// Row-major over the channel factors of `form`.
    pub(crate) ids: Rc<[ChannelId]>,
    /// What an error message calls the origin of these channels.
    pub(crate) source: Rc<str>,
    pub(crate) form: Form,
}

impl Value {
    /// The number of channels.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// How a tensor's dimensions hold its channels.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// `[N, C, …]` of unknown rank, or its channel-major flatten: in a trace that is written by
    /// hand or declared by fields.
    Loose(ElementCount),
    /// Dimensions that are known: in a `forward` that is read.
    Dims(Shape),
}

impl Form {
    pub(crate) fn shape(&self) -> Option<&Shape> {
        if let Form::Dims(shape) = self { Some(shape) } else { None }
    }

    /// How many elements a channel has, as a trace that knows no dimensions has to know it.
    pub(crate) fn positions(&self) -> ElementCount {
        match self {
            Form::Loose(positions) => *positions,
            Form::Dims(shape) if shape.rank() == 2 && shape.channel_dim() == Some(1) => {
                ElementCount::One
            }
            Form::Dims(_) => ElementCount::Several,
        }
    }
}

/// How many elements a channel has in one sample, as far as that is known: one for each position of
/// an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementCount {
    One,
    Several,
    /// Not the same for all channels.
    Mixed,
}
