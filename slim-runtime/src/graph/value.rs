//! Values: the tensors between layers. A value is a list of channel ids, and the dimensions that
//! hold them.

use std::rc::Rc;

use super::shape::Shape;

/// A channel of the network. Ids are dense, in the order in which a trace makes them.
pub(crate) type ChannelId = u32;

/// Position of a value in [`Recording::values`](super::Recording).
pub(crate) type ValueId = usize;

/// The data between layers in a symbolic forward pass: the channels of one tensor, several tensors,
/// or an input of the model that nothing has read yet.
///
/// [`Prunable::trace`](crate::Prunable::trace) takes a flow and returns a flow; the methods of
/// [`Tracer`](crate::Tracer) and [`LayerTracer`](crate::LayerTracer) compute with flows. A clone is
/// cheap, because lists are shared.
#[derive(Debug, Clone)]
pub struct Flow(pub(crate) FlowKind);

#[derive(Debug, Clone)]
pub(crate) enum FlowKind {
    /// The model's input of this number, which nothing has read yet. The first reader fixes its
    /// width, for all clones.
    Open(usize),
    /// One tensor.
    Value(Value),
    /// Several tensors: a model with more than one input or output.
    Tuple(Vec<Flow>),
}

impl Flow {
    /// A flow of several tensors.
    pub fn tuple(parts: impl Into<Vec<Flow>>) -> Self {
        Flow(FlowKind::Tuple(parts.into()))
    }

    /// The tensors of a [`tuple`](Self::tuple). A flow of one tensor is returned as one part.
    pub fn into_parts(self) -> Vec<Flow> {
        match self.0 {
            FlowKind::Tuple(parts) => parts,
            one => vec![Flow(one)],
        }
    }

    /// The number of channels of one tensor. `None` for several tensors, and for an input whose
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
    /// Name in error messages of the source of these channels.
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
    /// Known dimensions: in a `forward` that is read.
    Dims(Shape),
}

impl Form {
    pub(crate) fn shape(&self) -> Option<&Shape> {
        if let Form::Dims(shape) = self { Some(shape) } else { None }
    }

    /// How many elements a channel has, for a trace that does not know dimensions.
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

/// How many elements a channel has in one sample, as far as that is known. An image has one for
/// each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementCount {
    One,
    Several,
    /// Different for different channels.
    Mixed,
}
