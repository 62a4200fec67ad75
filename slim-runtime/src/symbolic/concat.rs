//! Concatenation of tensors along a dimension.

use std::borrow::Borrow;
use std::panic::Location;
use std::rc::Rc;

use smallvec::smallvec;

use super::table::operations;
use super::traced::{dimension, refused, shaped};
use super::{Traced, pass};
use crate::graph::shape::{Dim, Factor, Shape, holds_channels, is_assumed, size};
use crate::graph::{Form, Gate, Operator, Tracer, Value, arguments};
use crate::{Flow, Result};

operations! {
    "Concatenation and cuts" {
        "cat", "concat", "concatenate", "hstack", "vstack": "over channels: one list after the other; over anything else: channels at one position become one";
        "stack": "channels at one position become one";
    }
}

/// The values and shapes of several tensors.
fn all(cx: &mut Tracer, flows: &[Flow]) -> Result<Vec<(Value, Shape)>> {
    let values = flows.iter().map(|flow| cx.channels(flow, None)).collect::<Result<Vec<_>>>()?;
    let rank = values.iter().find_map(|value| value.form.shape().map(Shape::rank));
    Ok(values.iter().map(|value| shaped(cx, value, rank)).collect())
}

/// The flows of several tensors; `None` if an operation has failed.
fn flows<T: Borrow<Traced>>(tensors: &[T]) -> Option<Vec<Flow>> {
    tensors.iter().map(|tensor| tensor.borrow().flow()).collect()
}

fn concatenated(cx: &mut Tracer, name: &'static str, flows: &[Flow], dim: i64) -> Result<Flow> {
    let loose = |flow: &Flow| flow.value().is_none_or(|value| value.form.shape().is_none());
    if dim == 1 && !flows.is_empty() && flows.iter().all(loose) {
        return cx.concat(flows);
    }
    let values = all(cx, flows)?;
    let Some((_, first)) = values.iter().find(|(value, _)| value.len() > 0).or(values.first())
    else {
        return Err(refused(cx, format!("`{name}` of no tensors")));
    };
    let at = dimension(cx, name, first, dim)?;
    check_fit(cx, name, &values, at)?;
    let over_channels = values.iter().any(|(_, shape)| holds_channels(&shape.dims()[at]));
    if !over_channels {
        let sizes: Vec<_> = values.iter().map(|(_, shape)| shape.dims()[at].clone()).collect();
        let assumed = sizes.iter().any(|dim| is_assumed(dim));
        let total = sizes.iter().map(|dim| size(dim)).sum();
        let form = first.with(at, smallvec![Factor::Size { size: total, assumed }]);
        return side_by_side(cx, name, &values, form);
    }
    let mut lists = Vec::new();
    for (value, shape) in &values {
        lists.push(listed(cx, name, value, shape, at)?);
    }
    let width = lists.iter().map(Value::len).sum();
    let form = Form::Dims(first.with(at, smallvec![Factor::channels(width)]));
    let operands: Vec<_> = lists.iter().collect();
    Ok(cx.operate(Operator::concat(name), &operands, form).into())
}

/// Checks that all sizes agree, except in dimension `at`.
fn check_fit(cx: &Tracer, name: &str, values: &[(Value, Shape)], at: usize) -> Result<()> {
    let first = &values[0].1;
    let fits = |shape: &Shape| {
        let pairs = first.dims().iter().zip(shape.dims()).enumerate();
        let mut others = pairs.filter(|(dim, _)| *dim != at);
        first.rank() == shape.rank() && others.all(|(_, (a, b))| cx.have_one_size(a, b))
    };
    match values.iter().find(|(_, shape)| !fits(shape)) {
        None => Ok(()),
        Some((_, shape)) => {
            let (a, b) = (values[0].1.describe(), shape.describe());
            Err(refused(
                cx,
                format!(
                    "`{name}` over dimension {at} of {a} and {b}: their other sizes differ; if those depend on the size of the input, write its shape on the struct, as in `#[prune(input = [3, 224, 224])]`"
                ),
            ))
        }
    }
}

/// Concatenates tensors along a dimension that holds no channels. The channels at one position
/// become one channel group.
fn side_by_side(
    cx: &mut Tracer,
    name: &'static str,
    values: &[(Value, Shape)],
    shape: Shape,
) -> Result<Flow> {
    let with: Vec<&Value> =
        values.iter().map(|(value, _)| value).filter(|value| value.len() > 0).collect();
    let digits = |shape: &Shape| shape.digits();
    let layouts: Vec<_> = values.iter().filter(|(value, _)| value.len() > 0).collect();
    if layouts.windows(2).any(|pair| digits(&pair[0].1) != digits(&pair[1].1)) {
        return Err(refused(
            cx,
            format!(
                "`{name}` of tensors whose channels are in different dimensions; `permute` them before"
            ),
        ));
    }
    // A constant is not zero where a channel is removed.
    let constant = with.len() < values.len();
    let gate = if constant { Gate::Never } else { Gate::All };
    let form = Form::Dims(shape);
    Ok(match with[..] {
        [] => cx.constant_of(name, form).into(),
        [one] if values.len() == 1 => cx.operate(Operator::identity(name), &[one], form).into(),
        _ => cx.operate(Operator::zip(name, gate), &with, form).into(),
    })
}

/// The channels along one dimension of a value, as a list: each channel as often as it occurs
/// there, and new channels for a constant.
fn listed(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    at: usize,
) -> Result<Value> {
    let dim = &shape.dims()[at];
    if shape.digits().iter().any(|&(other, _)| other != at) {
        let shape = shape.describe();
        return Err(refused(
            cx,
            format!(
                "`{name}` over dimension {at} of {shape}, which holds channels in another dimension too; `view` them as one before"
            ),
        ));
    }
    if value.len() == 0 {
        return constant_channels(cx, name, value, size(dim));
    }
    if let [Factor::Channels { .. }] = dim[..] {
        return Ok(value.clone());
    }
    if is_assumed(dim) {
        let shape = shape.describe();
        return Err(refused(
            cx,
            format!(
                "`{name}` of {shape}, where the number of positions depends on the size of the input; write its shape on the struct, as in `#[prune(input = [3, 224, 224])]`, or `{name}` before `flatten`"
            ),
        ));
    }
    let mut channels = vec![0];
    for factor in dim {
        let size = factor.size() as usize;
        let step = |base: usize| {
            (0..size).map(move |at| if factor.is_channels() { base * size + at } else { base })
        };
        channels = channels.into_iter().flat_map(step).collect();
    }
    let form = Form::Dims(shape.with(at, smallvec![Factor::channels(channels.len())]));
    Ok(cx.operate(Operator::select("flatten", channels), &[value], form))
}

/// New channels for a constant. All of them are held, because `forward` writes out their number.
fn constant_channels(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    count: i64,
) -> Result<Value> {
    if cx.probe.scale > 1 && count % cx.probe.scale == 0 {
        return Err(refused(
            cx,
            format!(
                "`{name}` with a constant whose width is computed from a number of channels: whose channels it follows is not known; write `zeros_like` or `ones_like` of the tensor that it follows"
            ),
        ));
    }
    let is_zero = cx.is_zero(value);
    let operator = if is_zero { Operator::zeros(name) } else { Operator::constant(name) };
    let count = cx.count(name, count)?;
    let made = cx.constant(operator, count, Shape::new([smallvec![Factor::channels(count)]]));
    let reason = cx.mixed("a constant with a fixed number of channels");
    cx.hold_ids(Rc::clone(&made.ids), reason);
    Ok(made)
}

impl Traced {
    /// Concatenates tensors along a dimension.
    #[track_caller]
    pub fn cat<T: Borrow<Traced>>(tensors: &[T], dim: i64) -> Traced {
        let Some(flows) = flows(tensors) else { return Traced::failed() };
        let done = pass::record(Location::caller(), |cx| concatenated(cx, "cat", &flows, dim));
        let done = done.map_or_else(Traced::failed, Traced::new);
        done.called("cat", arguments![&flows[..], dim])
    }

    /// Concatenates tensors along a dimension.
    #[track_caller]
    pub fn concat<T: Borrow<Traced>>(tensors: &[T], dim: i64) -> Traced {
        Self::cat(tensors, dim)
    }

    /// Concatenates tensors along a dimension.
    #[track_caller]
    pub fn concatenate<T: Borrow<Traced>>(tensors: &[T], dim: i64) -> Traced {
        Self::cat(tensors, dim)
    }

    /// Concatenates tensors along dimension 1.
    #[track_caller]
    pub fn hstack<T: Borrow<Traced>>(tensors: &[T]) -> Traced {
        Self::cat(tensors, 1)
    }

    /// Concatenates tensors along dimension 0.
    #[track_caller]
    pub fn vstack<T: Borrow<Traced>>(tensors: &[T]) -> Traced {
        Self::cat(tensors, 0)
    }

    /// Stacks tensors along a new dimension.
    #[track_caller]
    pub fn stack<T: Borrow<Traced>>(tensors: &[T], dim: i64) -> Traced {
        let Some(flows) = flows(tensors) else { return Traced::failed() };
        let done = pass::record(Location::caller(), |cx| {
            let values = all(cx, &flows)?;
            let Some((_, first)) = values.first() else {
                return Err(refused(cx, "`stack` of no tensors".to_owned()));
            };
            check_fit(cx, "stack", &values, usize::MAX)?;
            let rank = first.rank() as i64 + 1;
            if !(-rank..rank).contains(&dim) {
                return Err(refused(
                    cx,
                    format!("`stack` at dimension {dim} of {}", first.describe()),
                ));
            }
            let mut dims: Vec<Dim> = first.dims().to_vec();
            let size = smallvec![Factor::exact(values.len() as i64)];
            dims.insert(dim.rem_euclid(rank) as usize, size);
            side_by_side(cx, "stack", &values, Shape::new(dims))
        });
        let done = done.map_or_else(Traced::failed, Traced::new);
        done.called("stack", arguments![&flows[..], dim])
    }
}
