//! Real tensors that meet symbolic ones: a model's own tensors, and constants.

use std::fmt::Display;
use std::panic::Location;

use smallvec::smallvec;
use tch::{Device, Kind, Tensor};

use super::traced::refused;
use super::{Traced, pass};
use crate::graph::parts::FieldTensor;
use crate::graph::shape::{Dim, Factor, Shape, size};
use crate::graph::{Argument, Effect, Form, LayerKind, Operator, Role, Tracer, arguments};
use crate::{Error, Flow, Result};

/// Converts a real or symbolic tensor to a symbolic one. `#[forward]` writes the conversion around
/// the elements of a list.
#[doc(hidden)]
pub trait Lift {
    /// The symbolic tensor.
    #[track_caller]
    fn lift(self) -> Traced;
}

impl Lift for Traced {
    fn lift(self) -> Traced {
        self
    }
}

impl Lift for &Traced {
    fn lift(self) -> Traced {
        self.shallow_clone()
    }
}

impl Lift for &&Traced {
    fn lift(self) -> Traced {
        self.shallow_clone()
    }
}

impl Lift for &Tensor {
    #[track_caller]
    fn lift(self) -> Traced {
        lifted(self)
    }
}

impl Lift for &&Tensor {
    #[track_caller]
    fn lift(self) -> Traced {
        lifted(self)
    }
}

impl Lift for Tensor {
    #[track_caller]
    fn lift(self) -> Traced {
        lifted(&self)
    }
}

/// A return value of a forward pass.
#[diagnostic::on_unimplemented(
    message = "a forward pass gives tensors, and this one gives `{Self}`",
    label = "not made of tensors",
    note = "return a `Tensor`, or a tuple, `Vec`, array, `Option` or `Result` of tensors; for anything else, give the method another name"
)]
#[doc(hidden)]
pub trait Outputs {
    /// The tensors in the return value.
    fn outputs(self) -> Vec<Traced>;
}

impl Outputs for Traced {
    fn outputs(self) -> Vec<Traced> {
        vec![self]
    }
}

impl Outputs for Tensor {
    #[track_caller]
    fn outputs(self) -> Vec<Traced> {
        vec![Lift::lift(self)]
    }
}

impl<T: Outputs> Outputs for Vec<T> {
    fn outputs(self) -> Vec<Traced> {
        self.into_iter().flat_map(Outputs::outputs).collect()
    }
}

impl<T: Outputs, const N: usize> Outputs for [T; N] {
    fn outputs(self) -> Vec<Traced> {
        self.into_iter().flat_map(Outputs::outputs).collect()
    }
}

impl<T: Outputs> Outputs for Option<T> {
    fn outputs(self) -> Vec<Traced> {
        self.into_iter().flat_map(Outputs::outputs).collect()
    }
}

impl<T: Outputs, E: Display> Outputs for std::result::Result<T, E> {
    #[track_caller]
    fn outputs(self) -> Vec<Traced> {
        match self {
            Ok(given) => given.outputs(),
            Err(error) => {
                pass::record(Location::caller(), |cx| -> Result<()> {
                    Err(refused(cx, format!("its `forward` returns an error: {error}")))
                });
                Vec::new()
            }
        }
    }
}

macro_rules! tuples {
    ($(($($part:ident $index:tt),+))+) => {
        $(impl<$($part: Outputs),+> Outputs for ($($part,)+) {
            fn outputs(self) -> Vec<Traced> {
                let mut all = Vec::new();
                $(all.extend(self.$index.outputs());)+
                all
            }
        })+
    };
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

/// Lifts a real tensor: a constant, or a parameter that makes channels of its own, such as a class
/// token.
#[track_caller]
fn lifted(tensor: &Tensor) -> Traced {
    let made = pass::record(Location::caller(), |cx| {
        let parts = cx.parts.clone();
        match parts.as_ref().and_then(|parts| parts.tensor(tensor)) {
            Some((field, whole)) => {
                check_whole(cx, field, whole)?;
                made_by(cx, field, tensor)
            }
            None => {
                check_constant(cx, tensor)?;
                note_contents(cx, tensor)?;
                let dims = tensor.size().into_iter().map(|size| smallvec![Factor::exact(size)]);
                Ok(Flow::from(cx.constant(Operator::constant("constant"), 0, Shape::new(dims))))
            }
        }
        .inspect(|flow| cx.call("tensor", || unexpanded(tensor), flow))
    });
    made.map_or_else(Traced::failed, Traced::new)
}

/// A tensor as arguments of a call: its elements without those that `expand` repeats, and its
/// sizes.
fn unexpanded(tensor: &Tensor) -> Vec<Argument> {
    let sizes = tensor.size();
    let repeats = tensor.stride().into_iter().map(|stride| stride == 0);
    let own: Vec<i64> =
        sizes.iter().zip(repeats).map(|(&size, repeats)| if repeats { 1 } else { size }).collect();
    let mut strides = tensor.stride();
    for dim in (0..own.len()).rev().filter(|&dim| own[dim] == 1) {
        strides[dim] = own.get(dim + 1).map_or(1, |&size| size * strides[dim + 1]);
    }
    let whole = || tensor.shallow_clone();
    let base = if own == sizes {
        whole()
    } else {
        tensor.f_as_strided(&own, &strides, None).unwrap_or_else(|_| whole())
    };
    arguments![&base, &sizes]()
}

/// The channels that a parameter makes, in its last dimension that is not 1.
fn made_by(cx: &mut Tracer, field: &FieldTensor, view: &Tensor) -> Result<Flow> {
    let sizes = view.size();
    let dim = sizes.iter().rposition(|&size| size != 1).unwrap_or(0);
    let width = sizes.get(dim).copied().unwrap_or(1);
    let strides = view.stride();
    let own = base_dim(field, width, strides.get(dim).copied().unwrap_or(1));
    let Some(own) = own else { return Err(unclear(cx, field)) };
    cx.at_path(&field.path.clone(), |cx| {
        let mut layer = cx.layer(LayerKind::other("parameter"));
        let made = layer.write("out", width)?;
        bind(&mut layer, field, &[(own, made)])?;
        let dims = sizes.iter().map(|&size| smallvec![Factor::exact(size)]);
        layer.frame_of(Shape::new(dims), dim);
        layer.multiplies_nothing();
        layer.pass(made)
    })
}

fn bind(
    layer: &mut crate::LayerTracer<'_>,
    field: &FieldTensor,
    axes: &[(usize, crate::Axis)],
) -> Result<()> {
    match role(&field.tensor) {
        Role::Parameter => layer.parameter("value", &field.tensor, axes),
        Role::Buffer => layer.buffer("value", &field.tensor, axes),
    }
}

fn role(tensor: &Tensor) -> Role {
    if tensor.requires_grad() { Role::Parameter } else { Role::Buffer }
}

/// The dimension of a field that a view shows with this size and stride.
fn base_dim(field: &FieldTensor, size: i64, stride: i64) -> Option<usize> {
    let (sizes, strides) = (field.tensor.size(), field.tensor.stride());
    (0..sizes.len()).find(|&dim| sizes[dim] == size && (strides[dim] == stride || size == 1))
}

fn check_whole(cx: &Tracer, field: &FieldTensor, whole: bool) -> Result<()> {
    if whole {
        return Ok(());
    }
    let name = field.path.join(".");
    Err(refused(
        cx,
        format!(
            "a part of `{name}` is used, which would hold other channels once some are removed; make the part a field of its own"
        ),
    ))
}

fn unclear(cx: &Tracer, field: &FieldTensor) -> Error {
    let (name, shape) = (field.path.join("."), field.tensor.size());
    refused(
        cx,
        format!(
            "it is not clear which dimension of `{name}` {shape:?} follows channels; `view` it in the order of its dimensions"
        ),
    )
}

/// Checks that a tensor that is no field is a constant: that it is not computed from parameters.
fn check_constant(cx: &Tracer, tensor: &Tensor) -> Result<()> {
    let path = cx.path();
    let trained = tensor.requires_grad() || !tensor.f_is_leaf().map_err(Error::torch(&path))?;
    if !trained {
        return Ok(());
    }
    Err(refused(
        cx,
        "a tensor is used that is computed from parameters, or is a parameter that is no field of the model; make it a field, or compute it from symbolic tensors only".to_owned(),
    ))
}

/// Records the elements of a constant, so that a constant that depends on widths or weights is
/// detected when it changes.
pub(super) fn note_contents(cx: &mut Tracer, tensor: &Tensor) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let elements = || {
        Vec::<f64>::try_from(
            &tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_reshape(-1)?,
        )
    };
    let elements = elements().map_err(Error::torch(cx.path()))?;
    cx.contents = elements.iter().map(|element| element.to_bits()).collect();
    if let [number] = elements[..] {
        cx.numbers.push(number);
    }
    Ok(())
}

/// How a symbolic tensor and a real one are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// Zero stays zero: a product.
    Scale,
    /// Zero stays zero, unless the real tensor is zero there: a quotient.
    Divide,
    /// Zero becomes the real tensor's value: a sum, a difference.
    Shift,
    /// Zero becomes infinite: the real tensor is divided by the symbolic one.
    DivideBy,
}

/// Joins a symbolic tensor element by element with a real one: a constant, or a tensor of the
/// model, whose dimensions follow the channels that they are aligned with.
pub(super) fn joined(
    cx: &mut Tracer,
    name: &'static str,
    flow: &Flow,
    tensor: &Tensor,
    join: Join,
) -> Result<Flow> {
    let parts = cx.parts.clone();
    let field = parts.as_ref().and_then(|parts| parts.tensor(tensor));
    let operator = match join {
        Join::Scale | Join::Divide => Operator::each(name, Effect::ZeroOnly),
        Join::Shift => Operator::ungated(name),
        Join::DivideBy => Operator::pole(name),
    };
    let Some((field, whole)) = field else {
        check_constant(cx, tensor)?;
        note_contents(cx, tensor)?;
        // A model input that no layer has read yet keeps all of its channels anyway.
        if tensor.numel() == 1 || flow.value().is_none() {
            return cx.each_of(flow, &operator);
        }
        let value = cx.channels(flow, None)?;
        let (value, shape) = super::traced::shaped(cx, &value, Some(tensor.dim().max(2)));
        let (dims, pinned) = aligned(cx, name, &shape, tensor)?;
        if pinned {
            let ids = std::rc::Rc::clone(&value.ids);
            let reason = cx.mixed(&format!("`{name}` with a constant that has a value for each"));
            cx.hold_ids(ids, reason);
        }
        return Ok(cx.operate(operator, &[&value], Form::Dims(dims)).into());
    };
    check_whole(cx, field, whole)?;
    let value = cx.channels(flow, None)?;
    let (value, shape) = super::traced::shaped(cx, &value, Some(tensor.dim().max(2)));
    let (dims, meets) = aligned(cx, name, &shape, tensor)?;
    let dim = shape.channel_dim().filter(|_| meets);
    let path = field.path.clone();
    let own = match dim {
        Some(dim) => {
            let at = tensor.dim() - (shape.rank() - dim);
            let (size, stride) = (tensor.size()[at], tensor.stride()[at]);
            Some(base_dim(field, size, stride).ok_or_else(|| unclear(cx, field))?)
        }
        None if meets => return Err(unclear(cx, field)),
        None => None,
    };
    let width = value.len() as i64;
    cx.at_path(&path, |cx| {
        let mut layer = cx.layer(LayerKind::PerChannel);
        let channels = layer.follow_anywhere("channels", &value.clone().into(), width)?;
        let axes: Vec<_> = own.map(|own| (own, channels)).into_iter().collect();
        bind(&mut layer, field, &axes)?;
        layer.frame_of(dims, dim.or(shape.channel_dim()).unwrap_or(1));
        // A tensor with one value for all channels is not set to zero when one channel is removed.
        let is_masked = own.is_some() && role(&field.tensor) == Role::Parameter;
        match join {
            Join::Divide if is_masked => layer.divide(channels),
            Join::Scale | Join::Divide => layer.pass(channels),
            Join::Shift if is_masked => layer.shift(channels),
            Join::Shift => layer.ungate(channels),
            Join::DivideBy => layer.divide_by(channels),
        }
    })
}

/// The dimensions of a symbolic tensor broadcast with a real one, and whether the real tensor has a
/// value for each channel.
fn aligned(cx: &Tracer, name: &str, shape: &Shape, tensor: &Tensor) -> Result<(Shape, bool)> {
    let real = tensor.size();
    let misfit = || {
        let shape = shape.describe();
        refused(
            cx,
            format!(
                "`{name}` of {shape} and a tensor of shape {real:?}: their sizes differ; if that depends on the size of the input, write it on the struct, as in `#[prune(input = [3, 224, 224])]`"
            ),
        )
    };
    let rank = shape.rank().max(real.len());
    let mut meets = false;
    let mut dims: Vec<Dim> = Vec::new();
    for i in 0..rank {
        let own = (i + shape.rank()).checked_sub(rank).map(|i| &shape.dims()[i]);
        let other = (i + real.len()).checked_sub(rank).map_or(1, |i| real[i]);
        let own = own.cloned().unwrap_or_default();
        let holds = crate::graph::shape::holds_channels(&own);
        dims.push(match (size(&own), other) {
            (_, 1) => own,
            (a, b) if a == b => {
                meets |= holds;
                own
            }
            (1, b) if !holds => smallvec![Factor::exact(b)],
            _ => return Err(misfit()),
        });
    }
    Ok((Shape::new(dims), meets))
}

/// The field that is the second factor of a matrix product, and the field's dimensions for the
/// rows, which are summed over, and the columns. `None` for a constant.
pub(super) fn matrix<'p>(
    cx: &Tracer,
    parts: &'p crate::graph::parts::Parts,
    tensor: &Tensor,
) -> Result<Option<(&'p FieldTensor, [usize; 2])>> {
    let Some((field, whole)) = parts.tensor(tensor) else {
        check_constant(cx, tensor)?;
        return Ok(None);
    };
    check_whole(cx, field, whole)?;
    let (sizes, strides) = (tensor.size(), tensor.stride());
    let [rows, columns] = sizes[..] else { return Err(unclear(cx, field)) };
    let own = |size, stride| base_dim(field, size, stride).ok_or_else(|| unclear(cx, field));
    Ok(Some((field, [own(rows, strides[0])?, own(columns, strides[1])?])))
}
