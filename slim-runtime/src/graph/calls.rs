//! The calls of a forward pass, with their arguments: what an export writes.
//!
//! An [`Operator`](super::Operator) says what an operation does to channels. A call says what
//! `forward` asks libtorch for. It is recorded only for an export.

use std::collections::HashMap;
use std::panic::Location;

use tch::{Device, Kind, Tensor};

use super::value::{FlowKind, Value, ValueId};
use super::{Flow, Tracer};

/// A call of an operation or of a layer.
#[derive(Debug)]
pub(crate) struct Call {
    /// The method of `Tensor`, or the layer: `max_pool2d`, `conv`.
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) results: Vec<ValueId>,
    /// Field path of the part whose forward pass makes the call.
    pub(crate) path: String,
    /// Source position in a `forward` that is read.
    pub(crate) at: Option<&'static Location<'static>>,
}

/// An argument of a call.
#[derive(Debug)]
pub enum Argument {
    Value(ValueId),
    Values(Vec<ValueId>),
    /// A parameter of the network, or a constant.
    Tensor(Tensor),
    Ints(Vec<i64>),
    Number(f64),
    Numbers(Vec<f64>),
    Flag(bool),
    Text(String),
    Kind(Kind),
    /// An argument that is not given.
    None,
}

impl Argument {
    /// The values of the argument.
    pub(crate) fn values(&self) -> &[ValueId] {
        match self {
            Argument::Value(id) => std::slice::from_ref(id),
            Argument::Values(ids) => ids,
            _ => &[],
        }
    }
}

/// The calls of a symbolic pass, in order.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) list: Vec<Call>,
    /// The sizes of values, where the pass knows them.
    pub(crate) sizes: HashMap<ValueId, Vec<i64>>,
    /// The sizes that `forward` asked for: of which value, and the answer.
    pub(crate) asked: Vec<(ValueId, Vec<i64>)>,
    /// Number of calls in progress that are recorded as one, without those inside.
    muted: usize,
}

impl Calls {
    /// Keeps a value's sizes.
    fn know(&mut self, value: &Value) {
        if let Some(shape) = value.form.shape() {
            self.sizes.insert(value.id, shape.answers(1));
        }
    }
}

/// A flow as an argument: its value, or its values.
impl From<&Flow> for Argument {
    fn from(flow: &Flow) -> Self {
        match &flow.0 {
            FlowKind::Value(value) => Argument::Value(value.id),
            FlowKind::Tuple(flows) => Argument::Values(
                flows.iter().filter_map(Flow::value).map(|value| value.id).collect(),
            ),
            FlowKind::Open(_) => Argument::None,
        }
    }
}

impl From<&[Flow]> for Argument {
    fn from(flows: &[Flow]) -> Self {
        Argument::Values(flows.iter().filter_map(Flow::value).map(|value| value.id).collect())
    }
}

macro_rules! arguments_from {
    ($($ty:ty: |$given:ident| $argument:expr;)+) => {$(
        impl From<$ty> for Argument {
            fn from($given: $ty) -> Self {
                $argument
            }
        }
    )+};
}

arguments_from! {
    &Value: |value| Argument::Value(value.id);
    &Tensor: |tensor| Argument::Tensor(tensor.shallow_clone());
    i64: |number| Argument::Ints(vec![number]);
    &[i64]: |numbers| Argument::Ints(numbers.to_vec());
    &Vec<i64>: |numbers| Argument::Ints(numbers.clone());
    f64: |number| Argument::Number(number);
    &[f64]: |numbers| Argument::Numbers(numbers.to_vec());
    bool: |flag| Argument::Flag(flag);
    &str: |text| Argument::Text(text.to_owned());
    Kind: |kind| Argument::Kind(kind);
    Device: |_device| Argument::None;
}

impl<const D: usize> From<&[i64; D]> for Argument {
    fn from(numbers: &[i64; D]) -> Self {
        Argument::Ints(numbers.to_vec())
    }
}

impl<T: Into<Argument>> From<Option<T>> for Argument {
    fn from(given: Option<T>) -> Self {
        given.map_or(Argument::None, Into::into)
    }
}

/// A list of arguments, for [`Tracer::call`].
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        || vec![$(Into::<$crate::graph::Argument>::into($argument)),*]
    };
}
pub(crate) use arguments;

impl Tracer {
    /// Records a call, if calls are recorded.
    pub(crate) fn call(
        &mut self,
        name: &'static str,
        arguments: impl FnOnce() -> Vec<Argument>,
        result: &Flow,
    ) {
        let (path, at) = (self.path(), self.at);
        let Some(calls) = self.calls.as_mut().filter(|calls| calls.muted == 0) else { return };
        let results: Vec<&Value> = match &result.0 {
            FlowKind::Value(value) => vec![value],
            FlowKind::Tuple(flows) => flows.iter().filter_map(Flow::value).collect(),
            FlowKind::Open(_) => return,
        };
        results.iter().for_each(|value| calls.know(value));
        let results = results.into_iter().map(|value| value.id).collect();
        calls.list.push(Call { name, arguments: arguments(), results, path, at });
    }

    /// Records that `forward` asked for the sizes of a value.
    pub(crate) fn ask(&mut self, value: &Value, sizes: &[i64]) {
        if let Some(calls) = &mut self.calls {
            calls.know(value);
            calls.asked.push((value.id, sizes.to_vec()));
        }
    }

    /// Keeps the sizes of an input.
    pub(crate) fn know(&mut self, value: &Value) {
        if let Some(calls) = &mut self.calls {
            calls.know(value);
        }
    }

    /// Starts or ends a call that is recorded as one, without the calls that it makes.
    pub(crate) fn mute(&mut self, starts: bool) {
        if let Some(calls) = &mut self.calls {
            calls.muted = if starts { calls.muted + 1 } else { calls.muted.saturating_sub(1) };
        }
    }
}
