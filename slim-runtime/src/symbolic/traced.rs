//! The symbolic tensor.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::memory::{Memory, ViewOf};
use super::pass;
use crate::error::WiringError;
use crate::graph::shape::Shape;
use crate::graph::{Argument, ElementCount, Form, Tracer, Value};
use crate::{Error, Flow, Result};

/// A tensor of a symbolic forward pass: the channels that it carries, and no elements. It has the
/// methods of a [`Tensor`](tch::Tensor).
///
/// In the copy of a `forward` that [`#[forward]`](crate::forward) makes, `Tensor` is the name of
/// this type. [`guide::operations`](crate::guide::operations) lists what each method does to
/// channels.
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

    /// The result of a failed operation. Operations on it do nothing: only the first error is
    /// reported.
    pub(super) fn failed() -> Self {
        Traced { memory: Memory::new(None) }
    }

    /// The flow that the tensor holds; `None` after an error.
    pub(super) fn flow(&self) -> Option<Flow> {
        self.memory.flow()
    }

    /// Whether the tensor holds the value of `flow`.
    pub(super) fn is(&self, flow: &Flow) -> bool {
        let own = self.flow();
        let id = |flow: &Flow| flow.value().map(|value| value.id);
        own.is_some_and(|own| id(&own).is_some() && id(&own) == id(flow))
    }

    /// Runs an operation on the tensor's flow.
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

    /// Runs an operation that needs the tensor's dimensions.
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

    /// Runs an operation that returns several tensors.
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

    /// Records that a call of `forward` has given this tensor, if calls are recorded.
    #[track_caller]
    pub(crate) fn called(
        self,
        name: &'static str,
        arguments: impl FnOnce() -> Vec<Argument>,
    ) -> Traced {
        all_called(std::slice::from_ref(&self), name, arguments);
        self
    }

    /// Makes the result of an operation a view of this tensor.
    pub(crate) fn viewed(&self, result: Traced, of: ViewOf) -> Traced {
        Traced { memory: self.memory.view(result.flow(), of) }
    }

    /// Another handle to the same tensor.
    pub fn shallow_clone(&self) -> Traced {
        Traced { memory: Rc::clone(&self.memory) }
    }
}

/// A tensor as the argument of a call.
impl From<&Traced> for Argument {
    fn from(tensor: &Traced) -> Self {
        tensor.flow().map_or(Argument::None, |flow| Argument::from(&flow))
    }
}

/// Records that one call of `forward` has given these tensors, if calls are recorded.
#[track_caller]
pub(super) fn all_called(
    results: &[Traced],
    name: &'static str,
    arguments: impl FnOnce() -> Vec<Argument>,
) {
    let Some(flows) = results.iter().map(Traced::flow).collect::<Option<Vec<_>>>() else { return };
    pass::record(Location::caller(), |cx| {
        cx.call(name, arguments, &Flow::tuple(flows));
        Ok(())
    });
}

/// A value and its dimensions. Unknown dimensions are assumed: as many as `rank`, or those of an
/// image or of features.
pub(super) fn shaped(cx: &Tracer, value: &Value, rank: Option<usize>) -> (Value, Shape) {
    let shape = match &value.form {
        Form::Dims(shape) => return (value.clone(), shape.clone()),
        // Features are the last dimension.
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

/// The index of dimension `dim`, which counts from the end if it is negative.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) when the tensor has no such dimension.
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
    Error::Wiring(WiringError::Layer { path: cx.path(), reason })
}
