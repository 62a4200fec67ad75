//! Cuts and reordering along a dimension.

use std::panic::Location;

use smallvec::smallvec;

use super::arguments::Ints;
use super::memory::ViewOf;
use super::table::operations;
use super::traced::{all_called, dimension, refused};
use super::{Lift, Traced};
use crate::Result;
use crate::graph::shape::{
    Factor, Shape, answer, holds_channels, is_assumed, same_position, with_digit,
};
use crate::graph::{Argument, Effect, Form, Operator, Tracer, Value, arguments};

operations! {
    "Concatenation and cuts" {
        "chunk": "over channels: equal parts, which lose the same channels; otherwise keeps them";
        "split", "split_with_sizes", "narrow", "slice", "select", "get", "i": "over channels: refused where a number is written out, since it would be another channel once some are gone, unless it counts parts that stay (heads, or query, key and value); otherwise keep them";
        "unbind": "over parts that stay, such as query, key and value: the channels of each";
        "index_select": "over channels: refused; otherwise keeps them";
        "flip", "roll": "over channels: refused but for `flip`, which reverses their order; otherwise keep them";
        "pixel_shuffle": "each block of channels becomes one, and stays or goes as a whole";
        "pixel_unshuffle": "each channel becomes a block of them";
        "channel_shuffle": "interleaves groups, which lose the same channels";
    }
}

/// Advice for a cut by written-out numbers, which are wrong once channels are removed.
const STORE_IT: &str = "use `slim_runtime::nn::Split`, `Shuffle` or `ChannelSelect`, which store sizes and positions that follow the channels, or `chunk`";

/// The index in [`Shape::digits`] of a dimension's channel factor, if the dimension has no other
/// factor.
pub(super) fn only_digit(shape: &Shape, dim: usize) -> Option<usize> {
    let digits = shape.digits();
    let mut here = digits.iter().enumerate().filter(|(_, digit)| digit.0 == dim);
    match (here.next(), here.next(), shape.dims()[dim].len()) {
        (Some((digit, _)), None, 1) => Some(digit),
        _ => None,
    }
}

pub(super) fn counts(shape: &Shape) -> Vec<usize> {
    shape.digits().iter().map(|&(_, count)| count).collect()
}

/// Cuts the range of `length` indices from `start` out of dimension `dim`.
fn cut(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    (dim, start, length): (usize, i64, i64),
) -> Result<Value> {
    cx.recording.asked.given.extend([start, length]);
    let factors = &shape.dims()[dim];
    let whole = answer(factors, cx.probe.scale);
    let wrong = |cx: &Tracer| {
        let (shape, end) = (shape.describe(), start.saturating_add(length));
        refused(
            cx,
            format!(
                "`{name}` from {start} to {end} over dimension {dim} of {shape}, which has {whole}"
            ),
        )
    };
    if start < 0 || length < 0 || start.checked_add(length).is_none_or(|end| end > whole) {
        return Err(wrong(cx));
    }
    if !holds_channels(factors) {
        let assumed = is_assumed(factors);
        cx.sizes.push(start);
        let shape = shape.with(dim, smallvec![Factor::Size { size: length, assumed }]);
        return Ok(cx.operate(Operator::each(name, Effect::Keep), &[value], Form::Dims(shape)));
    }
    if (start, length) == (0, whole) {
        return Ok(cx.operate(Operator::identity(name), &[value], Form::Dims(shape.clone())));
    }
    let (Some(digit), [Factor::Channels { count, literal }]) =
        (only_digit(shape, dim), &factors[..])
    else {
        return Err(moved(cx, name, shape));
    };
    let counts = counts(shape);
    let scale = if *literal { 1 } else { cx.probe.scale };
    let follows = *literal || cx.decider.multiples(&[start, length], scale);
    if !follows {
        return Err(moved(cx, name, shape));
    }
    let (start, length) = ((start / scale) as usize, (length / scale) as usize);
    let values: Vec<usize> = (start..start + length).collect();
    let operator = Operator::select(name, with_digit(&counts, digit, &values));
    let operator = if *literal {
        operator
    } else {
        // A cut at shares of the width makes equal parts, which lose the same channels.
        let part = gcd(gcd(start, length), *count);
        operator.tied_to(same_position(&counts, digit, part))
    };
    let form = shape.with(dim, smallvec![Factor::Channels { count: length, literal: *literal }]);
    Ok(cx.operate(operator, &[value], Form::Dims(form)))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

fn moved(cx: &Tracer, name: &str, shape: &Shape) -> crate::Error {
    let shape = shape.describe();
    refused(
        cx,
        format!(
            "`{name}` of {shape} by numbers that are written out: they would be other channels once some are gone; {STORE_IT}"
        ),
    )
}

/// Selects one index of a dimension, and drops the dimension.
fn selected(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    (dim, index): (usize, i64),
) -> Result<Value> {
    let factors = &shape.dims()[dim];
    let whole = answer(factors, cx.probe.scale);
    if !(-whole..whole).contains(&index) {
        let shape = shape.describe();
        return Err(refused(
            cx,
            format!("`{name}` {index} of dimension {dim} of {shape}, which has {whole}"),
        ));
    }
    let form = Form::Dims(shape.without(dim));
    if !holds_channels(factors) {
        cx.sizes.push(index);
        return Ok(cx.operate(Operator::each(name, Effect::Keep), &[value], form));
    }
    match (only_digit(shape, dim), &factors[..]) {
        (Some(digit), &[Factor::Channels { count, literal }]) if literal || count == 1 => {
            let index = index.rem_euclid(whole) as usize;
            let positions = with_digit(&counts(shape), digit, &[index]);
            Ok(cx.operate(Operator::select(name, positions), &[value], form))
        }
        _ => Err(moved(cx, name, shape)),
    }
}

/// Splits a dimension into equal parts, as `chunk` does.
fn chunks(
    cx: &mut Tracer,
    name: &'static str,
    value: &Value,
    shape: &Shape,
    (dim, chunks): (usize, i64),
) -> Result<Vec<Value>> {
    let factors = &shape.dims()[dim];
    if chunks < 1 {
        return Err(refused(cx, format!("`{name}` into {chunks} parts; name at least 1")));
    }
    let whole = answer(factors, cx.probe.scale);
    let (true, Some(digit), [Factor::Channels { count, literal: false }]) =
        (holds_channels(factors), only_digit(shape, dim), &factors[..])
    else {
        let length = (whole + chunks - 1) / chunks;
        let starts =
            (0..chunks).map_while(|part| part.checked_mul(length).filter(|&start| start < whole));
        let parts = starts.map(|start| (dim, start, length.min(whole - start)));
        return parts.map(|part| cut(cx, name, value, shape, part)).collect();
    };
    let parts = cx.count(name, chunks)?;
    let part_size = cx.part_size(name, value, parts).and_then(|_| {
        let fits = count.is_multiple_of(parts);
        if fits { Ok(count / parts) } else { Err(moved(cx, name, shape)) }
    })?;
    let counts = counts(shape);
    let part = |part: usize| {
        let values: Vec<usize> = (part * part_size..(part + 1) * part_size).collect();
        let operator = Operator::select(name, with_digit(&counts, digit, &values))
            .tied_to(same_position(&counts, digit, part_size));
        let form = shape.with(dim, smallvec![Factor::channels(part_size)]);
        cx.operate(operator, &[value], Form::Dims(form))
    };
    Ok((0..parts).map(part).collect())
}

impl Traced {
    #[track_caller]
    fn several(
        &self,
        (name, arguments): (&'static str, impl FnOnce() -> Vec<Argument>),
        expected: usize,
        operation: impl FnOnce(&mut Tracer, &Value, &Shape) -> Result<Vec<Value>>,
    ) -> Vec<Traced> {
        match self.on_shape_to_several(Location::caller(), operation) {
            Some(parts) => {
                all_called(&parts, name, arguments);
                parts.into_iter().map(|part| self.viewed(part, ViewOf::Some)).collect()
            }
            None => (0..expected).map(|_| Traced::failed()).collect(),
        }
    }

    /// At most `parts` parts of a dimension, of equal size; the last may be smaller.
    #[track_caller]
    pub fn chunk(&self, parts: i64, dim: i64) -> Vec<Traced> {
        let call = ("chunk", arguments![self, parts, dim]);
        self.several(call, parts.clamp(0, 1_000) as usize, |cx, value, shape| {
            let dim = dimension(cx, "chunk", shape, dim)?;
            chunks(cx, "chunk", value, shape, (dim, parts))
        })
    }

    /// Parts of a dimension, of `split_size` each; the last may be smaller.
    #[track_caller]
    pub fn split(&self, split_size: i64, dim: i64) -> Vec<Traced> {
        let call = ("split", arguments![self, split_size, dim]);
        self.several(call, 64, |cx, value, shape| {
            let dim = dimension(cx, "split", shape, dim)?;
            let whole = answer(&shape.dims()[dim], cx.probe.scale);
            if split_size < 1 {
                return Err(refused(
                    cx,
                    format!("`split` into parts of {split_size}; name at least 1"),
                ));
            }
            let starts = (0..whole).step_by(usize::try_from(split_size).unwrap_or(1));
            let parts = starts.map(|start| (dim, start, split_size.min(whole - start)));
            parts.map(|part| cut(cx, "split", value, shape, part)).collect()
        })
    }

    /// Parts of a dimension, of these sizes.
    #[track_caller]
    pub fn split_with_sizes(&self, sizes: impl Ints, dim: i64) -> Vec<Traced> {
        let sizes = sizes.ints();
        let call = ("split_with_sizes", arguments![self, &sizes, dim]);
        self.several(call, sizes.len(), |cx, value, shape| {
            let dim = dimension(cx, "split_with_sizes", shape, dim)?;
            let mut start = 0;
            let parts = sizes.iter().map(|&size| {
                let part = (dim, start, size);
                start += size;
                cut(cx, "split_with_sizes", value, shape, part)
            });
            parts.collect()
        })
    }

    /// One tensor for each index of a dimension, without that dimension.
    #[track_caller]
    pub fn unbind(&self, dim: i64) -> Vec<Traced> {
        let call = ("unbind", arguments![self, dim]);
        self.several(call, 64, |cx, value, shape| {
            let dim = dimension(cx, "unbind", shape, dim)?;
            let whole = answer(&shape.dims()[dim], cx.probe.scale);
            (0..whole).map(|index| selected(cx, "unbind", value, shape, (dim, index))).collect()
        })
    }

    #[track_caller]
    fn part(&self, operation: impl FnOnce(&mut Tracer, &Value, &Shape) -> Result<Value>) -> Traced {
        let result = self.on_shape(Location::caller(), operation);
        self.viewed(result, ViewOf::Some)
    }

    /// A range of a dimension.
    #[track_caller]
    pub fn narrow(&self, dim: i64, start: i64, length: i64) -> Traced {
        self.part(|cx, value, shape| {
            let dim = dimension(cx, "narrow", shape, dim)?;
            let whole = answer(&shape.dims()[dim], cx.probe.scale);
            let start = if start < 0 { start + whole } else { start };
            cut(cx, "narrow", value, shape, (dim, start, length))
        })
        .called("narrow", arguments![self, dim, start, length])
    }

    /// A range of a dimension, with a step.
    #[track_caller]
    pub fn slice(
        &self,
        dim: i64,
        start: impl Into<Option<i64>>,
        end: impl Into<Option<i64>>,
        step: i64,
    ) -> Traced {
        let (first, end) = (start.into().unwrap_or(0), end.into());
        self.part(|cx, value, shape| {
            let dim = dimension(cx, "slice", shape, dim)?;
            let factors = shape.dims()[dim].clone();
            let whole = answer(&factors, cx.probe.scale);
            let place = |at: i64| if at < 0 { at + whole } else { at }.clamp(0, whole);
            let (start, end) = (place(first), place(end.unwrap_or(whole)));
            let length = (end - start).max(0);
            if step == 1 || whole == 0 {
                return cut(cx, "slice", value, shape, (dim, start, length));
            }
            if step < 1 || holds_channels(&factors) {
                return Err(moved(cx, "slice", shape));
            }
            let range = cut(cx, "slice", value, shape, (dim, start, length))?;
            let size = (length + step - 1) / step;
            let assumed = is_assumed(&factors);
            let shape = shape.with(dim, smallvec![Factor::Size { size, assumed }]);
            Ok(Value { form: Form::Dims(shape), ..range })
        })
        .called("slice", arguments![self, dim, first, end, step])
    }

    /// One index of a dimension, without that dimension.
    #[track_caller]
    pub fn select(&self, dim: i64, index: i64) -> Traced {
        self.part(|cx, value, shape| {
            let dim = dimension(cx, "select", shape, dim)?;
            selected(cx, "select", value, shape, (dim, index))
        })
        .called("select", arguments![self, dim, index])
    }

    /// One index of the first dimension, without that dimension.
    #[track_caller]
    pub fn get(&self, index: i64) -> Traced {
        self.select(0, index)
    }

    /// Elements at the positions that a tensor holds.
    #[track_caller]
    pub fn index_select<T: Lift + Clone>(&self, dim: i64, index: T) -> Traced {
        let index = index.lift();
        let count = index.size().iter().product();
        self.on_shape(Location::caller(), |cx, value, shape| {
            let dim = dimension(cx, "index_select", shape, dim)?;
            if holds_channels(&shape.dims()[dim]) {
                return Err(moved(cx, "index_select", shape));
            }
            let form = Form::Dims(shape.with(dim, smallvec![Factor::exact(count)]));
            Ok(cx.operate(Operator::each("index_select", Effect::Keep), &[value], form))
        })
        .called("index_select", arguments![self, dim, &index])
    }

    /// Elements in reverse order along dimensions.
    #[track_caller]
    pub fn flip(&self, dims: impl Ints) -> Traced {
        let dims = dims.ints();
        self.on_shape(Location::caller(), |cx, value, shape| {
            let mut value = value.clone();
            for &dim in &dims {
                let dim = dimension(cx, "flip", shape, dim)?;
                let form = Form::Dims(shape.clone());
                if !holds_channels(&shape.dims()[dim]) {
                    value = cx.operate(Operator::each("flip", Effect::Keep), &[&value], form);
                    continue;
                }
                let Some(digit) = only_digit(shape, dim) else {
                    return Err(moved(cx, "flip", shape));
                };
                let counts = counts(shape);
                let values: Vec<usize> = (0..counts[digit]).rev().collect();
                let positions = with_digit(&counts, digit, &values);
                value = cx.operate(Operator::select("flip", positions), &[&value], form);
            }
            Ok(value)
        })
        .called("flip", arguments![self, &dims])
    }

    /// Elements shifted along dimensions; those past the end return at the start.
    #[track_caller]
    pub fn roll(&self, shifts: impl Ints, dims: impl Ints) -> Traced {
        let (shifts, dims) = (shifts.ints(), dims.ints());
        self.on_shape(Location::caller(), |cx, value, shape| {
            cx.numbers = shifts.iter().map(|&shift| shift as f64).collect();
            let over_channels = dims
                .iter()
                .any(|&dim| shape.index(dim).is_some_and(|dim| holds_channels(&shape.dims()[dim])));
            if over_channels || dims.is_empty() {
                return Err(moved(cx, "roll", shape));
            }
            let form = Form::Dims(shape.clone());
            Ok(cx.operate(Operator::each("roll", Effect::Keep), &[value], form))
        })
        .called("roll", arguments![self, &shifts, &dims])
    }

    /// `[N, C · r², H, W]` as `[N, C, H · r, W · r]`.
    #[track_caller]
    pub fn pixel_shuffle(&self, upscale_factor: i64) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let factor = usize::try_from(upscale_factor).unwrap_or(0);
            let blocks = cx.pixel_shuffle(&value.clone().into(), factor)?;
            let image = cx.image(shape, |size| size.checked_mul(upscale_factor))?;
            let blocks = cx.channels(&blocks, None)?;
            Ok(Value {
                form: Form::Dims(image.with(1, smallvec![Factor::channels(blocks.len())])),
                ..blocks
            })
        })
        .called("pixel_shuffle", arguments![self, upscale_factor])
    }

    /// `[N, C, H · r, W · r]` as `[N, C · r², H, W]`.
    #[track_caller]
    pub fn pixel_unshuffle(&self, downscale_factor: i64) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let image = cx.image(shape, |size| {
                (downscale_factor > 0 && size % downscale_factor == 0)
                    .then(|| size / downscale_factor)
            })?;
            let times = downscale_factor.saturating_mul(downscale_factor);
            cx.count("pixel_unshuffle", times.saturating_mul(value.len() as i64))?;
            let times = cx.count("pixel_unshuffle", times)?;
            let each = (0..value.len()).flat_map(|channel| std::iter::repeat_n(channel, times));
            let form = image.with(1, smallvec![Factor::channels(value.len() * times)]);
            Ok(cx.operate(Operator::select("pixel_unshuffle", each), &[value], Form::Dims(form)))
        })
        .called("pixel_unshuffle", arguments![self, downscale_factor])
    }

    /// Channels in `groups` equal parts, interleaved.
    #[track_caller]
    pub fn channel_shuffle(&self, groups: i64) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let groups = usize::try_from(groups).unwrap_or(0);
            cx.image(shape, Some)?;
            let shuffled = cx.shuffle(&value.clone().into(), groups)?;
            let shuffled = cx.channels(&shuffled, None)?;
            Ok(Value { form: Form::Dims(shape.clone()), ..shuffled })
        })
        .called("channel_shuffle", arguments![self, groups])
    }
}
