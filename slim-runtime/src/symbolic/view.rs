//! Views: the same elements in other dimensions.

use std::panic::Location;

use smallvec::smallvec;

use super::Traced;
use super::arguments::Ints;
use super::cuts::{counts, only_digit};
use super::memory::ViewOf;
use super::table::operations;
use super::traced::{dimension, refused};
use crate::Result;
use crate::graph::shape::{Dim, Factor, Shape, answer, reordered, with_digit};
use crate::graph::view::{Cut, Misfit};
use crate::graph::{Effect, Form, Operator, Tracer, Value, arguments};

operations! {
    "Views" {
        "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "flat_view": "keep channels as they are; a dimension of channels that is cut by a number ties those of one position: `[n, 2, c / 2, h, w]` makes halves lose the same channels, `[n, c / 2, 2, h, w]` makes pairs stay or go together; a width that is written out is refused";
        "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "tr": "put dimensions, and with them the channels, in another order";
        "squeeze", "squeeze_dim", "unsqueeze", "expand", "expand_as": "keep channels as they are";
        "repeat", "tile": "repeat the list of channels, or positions";
        "repeat_interleave_self_int": "repeats each channel, or positions: the heads of key and value in grouped-query attention";
    }
}

/// Advice for a written-out number that is wrong once channels are removed.
const COMPUTE_IT: &str = "compute it from `size()`, as in `let (n, c, h, w) = xs.size4()?; xs.view([n, 2, c / 2, h, w])`, or write -1";

/// Regroups a value's elements into dimensions of these sizes.
pub(super) fn regrouped(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    sizes: &[i64],
) -> Result<Value> {
    cx.recording.asked.given.extend_from_slice(sizes);
    let scale = cx.probe.scale;
    let viewed = cx.decider.view(shape, sizes, scale).map_err(|misfit| {
        let shape = shape.describe();
        refused(cx, match misfit {
            Misfit::Literal => format!(
                "`{name}` of {shape} names a number of channels that would be wrong once some are gone; {COMPUTE_IT}"
            ),
            Misfit::Size => format!(
                "`{name}` cannot make {sizes:?} of {shape}: the sizes do not multiply to it, or a number of channels is written out; {COMPUTE_IT}; if a size depends on the input's, write its shape on the struct, as in `#[prune(input = [3, 224, 224])]`"
            ),
        })
    })?;
    let counts: Vec<usize> = shape.digits().iter().map(|&(_, count)| count).collect();
    let form = Form::Dims(viewed.shape);
    let keep = || Operator::each(name, Effect::Keep);
    let mut cuts = viewed.cuts.iter();
    let tied = |cut: Option<&_>| match cut {
        None => keep(),
        Some(cut) => keep().tied_to(Cut::representatives(cut, &counts)),
    };
    let mut result = cx.operate(tied(cuts.next()), &[value], form.clone());
    for cut in cuts {
        result = cx.operate(tied(Some(cut)), &[&result], form.clone());
    }
    Ok(result)
}

/// Permutes dimensions: `order` names the old dimension at each new position.
pub(super) fn permuted(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    order: &[usize],
) -> Value {
    let digits = shape.digits();
    let counts: Vec<usize> = digits.iter().map(|&(_, count)| count).collect();
    let of = |dim: usize| {
        digits.iter().enumerate().filter(move |(_, digit)| digit.0 == dim).map(|(index, _)| index)
    };
    let digit_order: Vec<usize> = order.iter().flat_map(|&dim| of(dim)).collect();
    let form = Form::Dims(Shape::new(order.iter().map(|&dim| shape.dims()[dim].clone())));
    let operator = if digit_order.is_sorted() {
        Operator::each(name, Effect::Keep)
    } else {
        Operator::select(name, reordered(&counts, &digit_order))
    };
    cx.operate(operator, &[value], form)
}

/// Replaces the dimensions of a value by others that hold the same channels in the same order.
fn kept(cx: &mut Tracer, name: &'static str, value: &Value, dims: Vec<Dim>) -> Value {
    let form = Form::Dims(Shape::new(dims));
    cx.operate(Operator::each(name, Effect::Keep), &[value], form)
}

impl Traced {
    #[track_caller]
    fn viewed_as(
        &self,
        name: &'static str,
        of: ViewOf,
        sizes: impl FnOnce(&Tracer, &Shape) -> Result<Vec<i64>>,
    ) -> Traced {
        let result = self.on_shape(Location::caller(), |cx, value, shape| {
            let sizes = sizes(cx, shape)?;
            regrouped(cx, name, value, shape, &sizes)
        });
        self.viewed(result, of)
    }

    /// The elements in dimensions of these sizes.
    #[track_caller]
    pub fn view<S: tch::Shape>(&self, sizes: S) -> Traced {
        let sizes = sizes.to_shape();
        self.viewed_as("view", ViewOf::All, |_, _| Ok(sizes.to_vec()))
            .called("view", arguments![self, &sizes[..]])
    }

    /// The elements in dimensions of these sizes, copied where a view cannot have them.
    #[track_caller]
    pub fn reshape(&self, sizes: impl Ints) -> Traced {
        let sizes = sizes.ints();
        self.viewed_as("reshape", ViewOf::Some, |_, _| Ok(sizes.clone()))
            .called("reshape", arguments![self, &sizes])
    }

    /// The elements in the dimensions of another tensor.
    #[track_caller]
    pub fn view_as(&self, other: &Traced) -> Traced {
        let sizes = other.size();
        self.viewed_as("view_as", ViewOf::All, |_, _| Ok(sizes.clone()))
            .called("view_as", arguments![self, &sizes])
    }

    /// The elements in the dimensions of another tensor, copied where a view cannot have them.
    #[track_caller]
    pub fn reshape_as(&self, other: &Traced) -> Traced {
        let sizes = other.size();
        self.viewed_as("reshape_as", ViewOf::Some, |_, _| Ok(sizes.clone()))
            .called("reshape_as", arguments![self, &sizes])
    }

    /// `[N, …]` as `[N, features]`.
    #[track_caller]
    pub fn flat_view(&self) -> Traced {
        self.viewed_as("flat_view", ViewOf::All, |cx, shape| {
            let first = shape.dims().first().map_or(1, |dim| answer(dim, cx.probe.scale));
            Ok(vec![first, -1])
        })
        .called("flatten", arguments![self, 1, -1])
    }

    /// Dimensions `start` to `end` joined into one.
    #[track_caller]
    pub fn flatten(&self, first: i64, last: i64) -> Traced {
        let result = self.on_shape(Location::caller(), |cx, value, shape| {
            let start = dimension(cx, "flatten", shape, first)?;
            let end = dimension(cx, "flatten", shape, last)?;
            let dims = shape.dims();
            let joined: Dim = dims.get(start..=end).unwrap_or_default().concat().into();
            let before = dims[..start].iter().cloned();
            let dims = before.chain([joined]).chain(dims[end + 1..].iter().cloned());
            let dims = dims.collect();
            Ok(kept(cx, "flatten", value, dims))
        });
        self.viewed(result, ViewOf::Some).called("flatten", arguments![self, first, last])
    }

    /// One dimension split into several of these sizes.
    #[track_caller]
    pub fn unflatten(&self, dim: i64, sizes: impl Ints) -> Traced {
        let sizes = sizes.ints();
        self.viewed_as("unflatten", ViewOf::All, |cx, shape| {
            let dim = dimension(cx, "unflatten", shape, dim)?;
            let all = shape.answers(cx.probe.scale);
            let (before, after) = (&all[..dim], &all[dim + 1..]);
            let known: i64 = sizes.iter().filter(|&&size| size != -1).product();
            let whole = |&size: &i64| if size == -1 { all[dim] / known.max(1) } else { size };
            let sizes = sizes.iter().map(whole);
            Ok(before.iter().copied().chain(sizes).chain(after.iter().copied()).collect())
        })
        .called("unflatten", arguments![self, dim, &sizes])
    }

    #[track_caller]
    fn reordered(
        &self,
        name: &'static str,
        order: impl FnOnce(&Tracer, &Shape) -> Result<Vec<usize>>,
    ) -> Traced {
        let result = self.on_shape(Location::caller(), |cx, value, shape| {
            let order = order(cx, shape)?;
            Ok(permuted(cx, name, value, shape, &order))
        });
        self.viewed(result, ViewOf::All)
    }

    /// Dimensions in another order.
    #[track_caller]
    pub fn permute(&self, order: impl Ints) -> Traced {
        let order = order.ints();
        self.reordered("permute", |cx, shape| {
            let dims = order.iter().map(|&dim| dimension(cx, "permute", shape, dim));
            let dims = dims.collect::<Result<Vec<_>>>()?;
            let mut sorted = dims.clone();
            sorted.sort_unstable();
            if sorted.iter().copied().eq(0..shape.rank()) {
                return Ok(dims);
            }
            let shape = shape.describe();
            Err(refused(cx, format!("`permute` to {order:?} of {shape}: name each dimension once")))
        })
        .called("permute", arguments![self, &order])
    }

    #[track_caller]
    fn swapped(&self, name: &'static str, a: i64, b: i64) -> Traced {
        self.reordered(name, |cx, shape| {
            let (a, b) = (dimension(cx, name, shape, a)?, dimension(cx, name, shape, b)?);
            let mut order: Vec<usize> = (0..shape.rank()).collect();
            order.swap(a, b);
            Ok(order)
        })
        .called("transpose", arguments![self, a, b])
    }

    /// Two dimensions swapped.
    #[track_caller]
    pub fn transpose(&self, a: i64, b: i64) -> Traced {
        self.swapped("transpose", a, b)
    }

    /// Two dimensions swapped.
    #[track_caller]
    pub fn swapaxes(&self, a: i64, b: i64) -> Traced {
        self.swapped("swapaxes", a, b)
    }

    /// Two dimensions swapped.
    #[track_caller]
    pub fn swapdims(&self, a: i64, b: i64) -> Traced {
        self.swapped("swapdims", a, b)
    }

    /// The transpose of a matrix.
    #[track_caller]
    pub fn tr(&self) -> Traced {
        self.swapped("tr", -2, -1)
    }

    /// Dimensions moved to other positions.
    #[track_caller]
    pub fn movedim(&self, source: impl Ints, destination: impl Ints) -> Traced {
        let (source, destination) = (source.ints(), destination.ints());
        self.reordered("movedim", |cx, shape| {
            let places = |dims: &[i64]| {
                dims.iter()
                    .map(|&dim| dimension(cx, "movedim", shape, dim))
                    .collect::<Result<Vec<_>>>()
            };
            let (source, destination) = (places(&source)?, places(&destination)?);
            let mut order: Vec<Option<usize>> = vec![None; shape.rank()];
            destination.iter().zip(&source).for_each(|(&to, &from)| order[to] = Some(from));
            let mut others = (0..shape.rank()).filter(|dim| !source.contains(dim));
            Ok(order.into_iter().filter_map(|place| place.or_else(|| others.next())).collect())
        })
        .called("movedim", arguments![self, &source, &destination])
    }

    /// Dimensions moved to other positions.
    #[track_caller]
    pub fn moveaxis(&self, source: impl Ints, destination: impl Ints) -> Traced {
        self.movedim(source, destination)
    }

    #[track_caller]
    fn redimensioned(
        &self,
        name: &'static str,
        dims: impl FnOnce(&Tracer, &Shape) -> Result<Vec<Dim>>,
    ) -> Traced {
        let result = self.on_shape(Location::caller(), |cx, value, shape| {
            let dims = dims(cx, shape)?;
            Ok(kept(cx, name, value, dims))
        });
        self.viewed(result, ViewOf::All)
    }

    /// The tensor without dimensions of size 1.
    #[track_caller]
    pub fn squeeze(&self) -> Traced {
        self.redimensioned("squeeze", |cx, shape| {
            let scale = cx.probe.scale;
            let dims = shape.dims().iter().filter(|dim| answer(dim, scale) != 1);
            Ok(dims.cloned().collect())
        })
        .called("squeeze", arguments![self])
    }

    /// The tensor without dimension `dim`, if its size is 1.
    #[track_caller]
    pub fn squeeze_dim(&self, dim: i64) -> Traced {
        self.redimensioned("squeeze_dim", |cx, shape| {
            let dim = dimension(cx, "squeeze_dim", shape, dim)?;
            let is_one = answer(&shape.dims()[dim], cx.probe.scale) == 1;
            Ok(if is_one { shape.without(dim) } else { shape.clone() }.dims().to_vec())
        })
        .called("squeeze_dim", arguments![self, dim])
    }

    /// The tensor with a new dimension of size 1.
    #[track_caller]
    pub fn unsqueeze(&self, dim: i64) -> Traced {
        self.redimensioned("unsqueeze", |cx, shape| {
            let rank = shape.rank() as i64 + 1;
            if !(-rank..rank).contains(&dim) {
                let shape = shape.describe();
                return Err(refused(
                    cx,
                    format!("`unsqueeze` of {shape} at dimension {dim}, which it cannot have"),
                ));
            }
            let mut dims = shape.dims().to_vec();
            dims.insert(dim.rem_euclid(rank) as usize, Dim::new());
            Ok(dims)
        })
        .called("unsqueeze", arguments![self, dim])
    }

    #[track_caller]
    fn expanded(&self, name: &'static str, sizes: Vec<i64>) -> Traced {
        self.redimensioned_some(name, |cx, shape| {
            cx.recording.asked.given.extend_from_slice(&sizes);
            let scale = cx.probe.scale;
            let wrong = |cx: &Tracer| {
                let shape = shape.describe();
                refused(cx, format!("`{name}` of {shape} to {sizes:?}: a dimension can be expanded if its size is 1"))
            };
            let Some(more) = sizes.len().checked_sub(shape.rank()) else { return Err(wrong(cx)) };
            let mut dims = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                let own = i.checked_sub(more).map(|i| shape.dims()[i].clone()).unwrap_or_default();
                let fits = size == -1 || answer(&own, scale) == size;
                dims.push(match fits {
                    true => own,
                    false if answer(&own, scale) == 1 && size > 0 => smallvec![Factor::exact(size)],
                    false => return Err(wrong(cx)),
                });
            }
            Ok(dims)
        })
        .called("expand", arguments![self, &sizes])
    }

    #[track_caller]
    fn redimensioned_some(
        &self,
        name: &'static str,
        dims: impl FnOnce(&mut Tracer, &Shape) -> Result<Vec<Dim>>,
    ) -> Traced {
        let result = self.on_shape(Location::caller(), |cx, value, shape| {
            let dims = dims(cx, shape)?;
            Ok(kept(cx, name, value, dims))
        });
        self.viewed(result, ViewOf::Some)
    }

    /// Dimensions of size 1 repeated to other sizes.
    #[track_caller]
    pub fn expand(&self, sizes: impl Ints, _implicit: bool) -> Traced {
        self.expanded("expand", sizes.ints())
    }

    /// Dimensions of size 1 repeated to the sizes of another tensor.
    #[track_caller]
    pub fn expand_as(&self, other: &Traced) -> Traced {
        self.expanded("expand_as", other.size())
    }

    /// The tensor repeated along each dimension, as often as `repeats` says.
    #[track_caller]
    pub fn repeat(&self, repeats: impl Ints) -> Traced {
        let repeats = repeats.ints();
        self.on_shape(Location::caller(), |cx, value, shape| {
            let wrong = |cx: &Tracer| {
                let shape = shape.describe();
                refused(cx, format!("`repeat` of {shape} by {repeats:?}: name a number for each dimension, at least 1; channels that are in several dimensions, or share one, cannot be repeated (heads can, with `repeat_interleave_self_int`, or with `unsqueeze` and `expand`)"))
            };
            let Some(more) = repeats.len().checked_sub(shape.rank()) else { return Err(wrong(cx)) };
            let (mut dims, mut copies) = (Vec::new(), 1);
            for (i, &times) in repeats.iter().enumerate() {
                let times = cx.count("repeat", times)?;
                cx.count("repeat", (times as i64).saturating_mul(value.len() as i64))?;
                let own = i.checked_sub(more).map(|i| shape.dims()[i].clone()).unwrap_or_default();
                let is_channels = i.checked_sub(more).is_some_and(|i| shape.channel_dim() == Some(i));
                dims.push(match (&own[..], times) {
                    (_, 1) => own,
                    (&[Factor::Channels { count, literal }], _) if is_channels => {
                        copies = times;
                        smallvec![Factor::Channels { count: count * times, literal }]
                    }
                    (factors, _) if factors.iter().any(|factor| factor.is_channels()) => {
                        return Err(wrong(cx));
                    }
                    _ => [smallvec![Factor::exact(times as i64)], own].concat().into(),
                });
            }
            let form = Form::Dims(Shape::new(dims));
            let operator = if copies == 1 {
                Operator::each("repeat", Effect::Keep)
            } else {
                Operator::select("repeat", (0..copies).flat_map(|_| 0..value.len()))
            };
            Ok(cx.operate(operator, &[value], form))
        })
        .called("repeat", arguments![self, &repeats])
    }

    /// The tensor repeated along each dimension, as often as `repeats` says.
    #[track_caller]
    pub fn tile(&self, repeats: impl Ints) -> Traced {
        let mut repeats = repeats.ints();
        while repeats.len() < self.dim() {
            repeats.insert(0, 1);
        }
        self.repeat(repeats)
    }

    /// Each element of a dimension repeated.
    #[track_caller]
    pub fn repeat_interleave_self_int(
        &self,
        repeats: i64,
        dim: impl Into<Option<i64>>,
        _output_size: impl Into<Option<i64>>,
    ) -> Traced {
        let (name, dim) = ("repeat_interleave_self_int", dim.into());
        self.on_shape(Location::caller(), |cx, value, shape| {
            let times = cx.count(name, repeats)?;
            cx.count(name, repeats.saturating_mul(value.len() as i64))?;
            let Some(dim) = dim.filter(|_| times > 0) else {
                let shape = shape.describe();
                let how = "name a dimension, and at least one repeat";
                return Err(refused(cx, format!("`{name}` of {shape} by {repeats}: {how}")));
            };
            let dim = dimension(cx, name, shape, dim)?;
            let own = &shape.dims()[dim];
            if let (Some(digit), &[Factor::Channels { count, literal }]) =
                (only_digit(shape, dim), &own[..])
            {
                let values: Vec<usize> =
                    (0..count).flat_map(|value| std::iter::repeat_n(value, times)).collect();
                let select = Operator::select(name, with_digit(&counts(shape), digit, &values));
                let all = Factor::Channels { count: count * times, literal };
                let form = Form::Dims(shape.with(dim, smallvec![all]));
                return Ok(cx.operate(select, &[value], form));
            }
            let more = Factor::exact(repeats);
            let dims = [&own[..], &[more]].concat().into();
            let form = Form::Dims(shape.with(dim, dims));
            Ok(cx.operate(Operator::each(name, Effect::Keep), &[value], form))
        })
        .called(name, arguments![self, repeats, dim])
    }
}
