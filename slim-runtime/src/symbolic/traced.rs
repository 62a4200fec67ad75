//! The symbolic value.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::memory::{Memory, ViewOf};
use super::pass;
use crate::graph::shape::Shape;
use crate::graph::{ElementCount, Form, Tracer, Value};
use crate::{Error, Flow, Result};

/// A tensor of a symbolic forward pass: the channels that it carries, and no elements. It has the
/// methods of a [`Tensor`](tch::Tensor).
///
/// In the copy of a `forward` that [`#[forward]`](crate::forward) makes, `Tensor` is the name of
/// this type. Each method is described by what it does to channels: see
/// [`guide::operations`](crate::guide::operations).
pub struct Traced {
    /// Shared by `shallow_clone`, as a tensor's memory is.
    pub(super) memory: Rc<Memory>,
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.memory.flow();
        match flow.as_ref().and_then(Flow::value).map(|value| &value.form) {
            Some(Form::Dims(shape)) => write!(f, "Traced{}", shape.describe()),
            _ => f.write_str("Traced"),
        }
    }
}

impl Clone for Traced {
    fn clone(&self) -> Self {
        self.shallow_clone()
    }
}

impl Traced {
    pub(super) fn new(flow: Flow) -> Self {
        Traced { memory: Memory::new(Some(flow)) }
    }

    /// What an operation gives that failed. Whatever is done with it does nothing: the first error
    /// is the one that counts.
    pub(super) fn failed() -> Self {
        Traced { memory: Memory::new(None) }
    }

    /// What is in the tensor; `None` after an error.
    pub(super) fn flow(&self) -> Option<Flow> {
        self.memory.flow()
    }

    /// Whether it holds this value.
    pub(super) fn is(&self, flow: &Flow) -> bool {
        let own = self.flow();
        let id = |flow: &Flow| flow.value().map(|value| value.id);
        own.is_some_and(|own| id(&own).is_some() && id(&own) == id(flow))
    }

    /// Runs an operation on flows.
    pub(super) fn on_flow(
        &self,
        at: &'static Location<'static>,
        operation: impl FnOnce(&mut Tracer, &Flow) -> Result<Flow>,
    ) -> Traced {
        let flow = self.flow();
        let run = |cx: &mut Tracer| flow.as_ref().map(|flow| operation(cx, flow)).transpose();
        match pass::record(at, run).flatten() {
            Some(flow) => Traced::new(flow),
            None => Traced::failed(),
        }
    }

    /// Runs an operation on one tensor.
    pub(super) fn on_value(
        &self,
        at: &'static Location<'static>,
        operation: impl FnOnce(&mut Tracer, &Value) -> Result<Value>,
    ) -> Traced {
        self.on_flow(at, |cx, flow| {
            let value = cx.channels(flow, None)?;
            operation(cx, &value).map(Flow::from)
        })
    }

    /// Runs an operation that needs to know dimensions.
    pub(super) fn on_shape(
        &self,
        at: &'static Location<'static>,
        operation: impl FnOnce(&mut Tracer, &Value, &Shape) -> Result<Value>,
    ) -> Traced {
        self.on_value(at, |cx, value| {
            let (value, shape) = shaped(cx, value, None);
            operation(cx, &value, &shape)
        })
    }

    /// Runs an operation that gives several tensors.
    pub(super) fn on_shape_to_several(
        &self,
        at: &'static Location<'static>,
        operation: impl FnOnce(&mut Tracer, &Value, &Shape) -> Result<Vec<Value>>,
    ) -> Option<Vec<Traced>> {
        let flow = self.flow()?;
        let values = pass::record(at, |cx| {
            let value = cx.channels(&flow, None)?;
            let (value, shape) = shaped(cx, &value, None);
            operation(cx, &value, &shape)
        })?;
        Some(values.into_iter().map(|value| Traced::new(value.into())).collect())
    }

    /// The result of an operation that gives a view of this tensor.
    pub(crate) fn viewed(&self, result: Traced, of: ViewOf) -> Traced {
        Traced { memory: self.memory.view(result.flow(), of) }
    }

    /// Another handle of the same tensor.
    pub fn shallow_clone(&self) -> Traced {
        Traced { memory: Rc::clone(&self.memory) }
    }
}

/// A value and its dimensions. Where nothing is known of them they are an image's, or of this rank.
pub(super) fn shaped(cx: &Tracer, value: &Value, rank: Option<usize>) -> (Value, Shape) {
    let shape = match &value.form {
        Form::Dims(shape) => return (value.clone(), shape.clone()),
        // Features, which are the last dimension.
        Form::Loose(ElementCount::One) => {
            let rank = rank.unwrap_or(2);
            let order: Vec<usize> = (0..rank).filter(|&dim| dim != 1).chain([1]).collect();
            let shape = cx.assumed_shape(value.len(), rank.max(2));
            Shape::new(order.iter().map(|&dim| shape.dims()[dim].clone()))
        }
        Form::Loose(_) => cx.assumed_shape(value.len(), rank.unwrap_or(4)),
    };
    (Value { form: Form::Dims(shape.clone()), ..value.clone() }, shape)
}

/// The position of a dimension that may be counted from the end.
///
/// # Errors
/// [`Error::Layer`] when there is none.
pub(super) fn dimension(cx: &Tracer, name: &str, shape: &Shape, dim: i64) -> Result<usize> {
    shape.index(dim).ok_or_else(|| {
        refused(
            cx,
            format!("`{name}` over dimension {dim} of {}, which has none", shape.describe()),
        )
    })
}

/// An error of the part whose `forward` is being read.
pub(super) fn refused(cx: &Tracer, reason: String) -> Error {
    Error::Layer { path: cx.path(), reason }
}
