//! Reductions over dimensions, and norms.

use std::panic::Location;

use smallvec::smallvec;
use tch::{Kind, Scalar};

use super::Traced;
use super::arguments::{Ints, IntsOption, number};
use super::cuts::{counts, only_digit};
use super::pass::OneCall;
use super::table::operations;
use super::traced::{all_called, dimension, refused};
use crate::Result;
use crate::graph::shape::{Dim, Factor, Shape, answer, holds_channels, reordered, same_position};
use crate::graph::{Argument, Effect, Form, Gate, Operator, Tracer, Value, arguments};

operations! {
    "Reductions and norms" {
        "mean_dim", "sum_dim_intlist", "amax", "amin", "max_dim", "min_dim", "std_dim", "var_dim", "norm_scalaropt_dim", "logsumexp": "over positions: keep channels as they are; over channels: these stay, since each result depends on all of them; over parts that stay (maxout): the parts' channels at one position become one";
        "mean", "sum", "prod", "max", "min", "std", "var", "norm": "the channels stay";
        "argmax", "argmin": "over positions: un-gate; over channels: these stay";
        "cumsum", "cumprod", "sort": "over positions: keeps channels as they are; over channels: these stay";
        "softmax", "log_softmax": "over positions: un-gate; over channels: these stay; over parts that stay (branches): the parts' channels at one position become one";
        "tril", "triu": "over positions: keep channels as they are; over channels: refused";
        "topk": "over positions: keeps channels as they are; over channels: refused";
        "glu": "over channels: halves, which lose the same channels";
    }
}

/// Whether an operation maps zeros to zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Stay,
    Move,
}

impl Zeros {
    /// An operation that keeps channels as they are, with this effect if zeros stay.
    fn operator(self, name: &'static str, effect: Effect) -> Operator {
        match self {
            Zeros::Stay => Operator::each(name, effect),
            Zeros::Move => Operator::ungated(name),
        }
    }
}

/// The dimensions of a reduction: all dimensions if none is named.
fn dimensions(cx: &Tracer, name: &str, shape: &Shape, dims: Option<&[i64]>) -> Result<Vec<usize>> {
    match dims {
        None | Some([]) => Ok((0..shape.rank()).collect()),
        Some(dims) => dims.iter().map(|&dim| dimension(cx, name, shape, dim)).collect(),
    }
}

/// Holds all channels of a value, because the operation computes a result from several of them.
pub(super) fn hold_together(cx: &mut Tracer, name: &str, value: &Value, dims: &[usize]) {
    let over = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let reason = cx.mixed(&format!("`{name}` over dimension {over}"));
    cx.hold_ids(std::rc::Rc::clone(&value.ids), reason);
}

/// An order of a tensor's channels in which channels that are reduced together are neighbours.
struct Parts {
    order: Vec<usize>,
    /// The number of channels that are reduced together.
    parts: usize,
}

/// The order for a reduction over a fixed number of parts, such as the two of a maxout. `None` if a
/// reduced dimension holds channels that can be removed, or no other dimension holds channels.
fn parts_first(shape: &Shape, over: &[usize]) -> Option<Parts> {
    let is_part = |dim: &Dim| {
        dim.iter().all(|factor| !matches!(factor, Factor::Channels { literal: false, .. }))
    };
    let reduces_parts = over.iter().all(|&dim| is_part(&shape.dims()[dim]));
    let digits = shape.digits();
    if !reduces_parts || digits.iter().all(|(dim, _)| over.contains(dim)) {
        return None;
    }
    let counts = counts(shape);
    let (reduced, left): (Vec<usize>, Vec<usize>) =
        (0..digits.len()).partition(|&digit| over.contains(&digits[digit].0));
    let parts = reduced.iter().map(|&digit| counts[digit]).product();
    Some(Parts { order: reordered(&counts, &[left, reduced].concat()), parts })
}

impl Traced {
    #[track_caller]
    fn reduced(
        &self,
        name: &'static str,
        dims: Option<Vec<i64>>,
        keepdim: bool,
        (effect, zeros): (Effect, Zeros),
    ) -> Traced {
        self.reduced_by(name, (dims, keepdim), Argument::None, (effect, zeros))
    }

    /// A reduction with an argument of its own.
    #[track_caller]
    fn reduced_by(
        &self,
        name: &'static str,
        (dims, keepdim): (Option<Vec<i64>>, bool),
        argument: impl Into<Argument>,
        (effect, zeros): (Effect, Zeros),
    ) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let over = dimensions(cx, name, shape, dims.as_deref())?;
            let over_channels = over.iter().any(|&dim| holds_channels(&shape.dims()[dim]));
            let left = shape.dims().iter().enumerate().filter_map(|(dim, factors)| {
                match (over.contains(&dim), keepdim) {
                    (false, _) => Some(factors.clone()),
                    (true, true) => Some(Dim::new()),
                    (true, false) => None,
                }
            });
            let form = Form::Dims(Shape::new(left.collect::<Vec<_>>()));
            let summed = over.iter().map(|&dim| &shape.dims()[dim]);
            cx.sizes.extend(
                summed.filter(|dim| !holds_channels(dim)).map(|dim| answer(dim, cx.probe.scale)),
            );
            if !over_channels {
                return Ok(cx.operate(zeros.operator(name, effect), &[value], form));
            }
            if let Some(positions) = parts_first(shape, &over) {
                // A fixed number of parts, as in maxout: each result depends on one channel of each
                // part.
                let order = Operator::select(name, positions.order);
                let ordered = cx.operate(order, &[value], value.form.clone());
                let blocks = Operator::blocks(name, positions.parts);
                let gate = if zeros == Zeros::Stay { Gate::All } else { Gate::Never };
                let operator = Operator { gate, effect: Effect::ZeroOnly, ..blocks };
                return Ok(cx.operate(operator, &[&ordered], form));
            }
            let elsewhere = shape.digits().iter().any(|(dim, _)| !over.contains(dim));
            hold_together(cx, name, value, &over);
            if elsewhere {
                let shape = shape.describe();
                return Err(refused(cx, format!("`{name}` over some of the dimensions that hold the channels of {shape}; `view` them as one before")));
            }
            Ok(cx.constant_of(name, form))
        })
        .called(name, arguments![self, dims.as_ref(), keepdim, argument])
    }

    /// The mean over dimensions.
    #[track_caller]
    pub fn mean_dim(
        &self,
        dim: impl IntsOption,
        keepdim: bool,
        dtype: impl Into<Option<Kind>>,
    ) -> Traced {
        let over = (dim.ints_option(), keepdim);
        self.reduced_by("mean_dim", over, dtype.into(), (Effect::Pooled, Zeros::Stay))
    }

    /// The sum over dimensions.
    #[track_caller]
    pub fn sum_dim_intlist(
        &self,
        dim: impl IntsOption,
        keepdim: bool,
        dtype: impl Into<Option<Kind>>,
    ) -> Traced {
        let over = (dim.ints_option(), keepdim);
        self.reduced_by("sum_dim_intlist", over, dtype.into(), (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The mean of all elements.
    #[track_caller]
    pub fn mean(&self, dtype: impl Into<Option<Kind>>) -> Traced {
        self.reduced_by("mean", (None, false), dtype.into(), (Effect::Pooled, Zeros::Stay))
    }

    /// The sum of all elements.
    #[track_caller]
    pub fn sum(&self, dtype: impl Into<Option<Kind>>) -> Traced {
        self.reduced_by("sum", (None, false), dtype.into(), (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The product of all elements.
    #[track_caller]
    pub fn prod(&self, dtype: impl Into<Option<Kind>>) -> Traced {
        self.reduced_by("prod", (None, false), dtype.into(), (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The largest element.
    #[track_caller]
    pub fn max(&self) -> Traced {
        self.reduced("max", None, false, (Effect::Pooled, Zeros::Stay))
    }

    /// The smallest element.
    #[track_caller]
    pub fn min(&self) -> Traced {
        self.reduced("min", None, false, (Effect::Pooled, Zeros::Stay))
    }

    /// The standard deviation of all elements.
    #[track_caller]
    pub fn std(&self, unbiased: bool) -> Traced {
        self.reduced_by("std", (None, false), unbiased, (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The variance of all elements.
    #[track_caller]
    pub fn var(&self, unbiased: bool) -> Traced {
        self.reduced_by("var", (None, false), unbiased, (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The Euclidean norm of all elements.
    #[track_caller]
    pub fn norm(&self) -> Traced {
        self.reduced("norm", None, false, (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The index of the largest element over a dimension.
    #[track_caller]
    pub fn argmax(&self, dim: impl Into<Option<i64>>, keepdim: bool) -> Traced {
        let dims = dim.into().map(|dim| vec![dim]);
        self.reduced("argmax", dims, keepdim, (Effect::ZeroOnly, Zeros::Move))
    }

    /// The index of the smallest element over a dimension.
    #[track_caller]
    pub fn argmin(&self, dim: impl Into<Option<i64>>, keepdim: bool) -> Traced {
        let dims = dim.into().map(|dim| vec![dim]);
        self.reduced("argmin", dims, keepdim, (Effect::ZeroOnly, Zeros::Move))
    }

    /// The largest element over dimensions.
    #[track_caller]
    pub fn amax(&self, dim: impl Ints, keepdim: bool) -> Traced {
        self.reduced("amax", Some(dim.ints()), keepdim, (Effect::Pooled, Zeros::Stay))
    }

    /// The smallest element over dimensions.
    #[track_caller]
    pub fn amin(&self, dim: impl Ints, keepdim: bool) -> Traced {
        self.reduced("amin", Some(dim.ints()), keepdim, (Effect::Pooled, Zeros::Stay))
    }

    /// The largest element over a dimension, and its index.
    #[track_caller]
    pub fn max_dim(&self, dim: i64, keepdim: bool) -> (Traced, Traced) {
        self.with_places("max_dim", dim, keepdim)
    }

    /// The smallest element over a dimension, and its index.
    #[track_caller]
    pub fn min_dim(&self, dim: i64, keepdim: bool) -> (Traced, Traced) {
        self.with_places("min_dim", dim, keepdim)
    }

    /// The largest or smallest element over a dimension, and its index, which need not be zero
    /// where the elements are zero.
    #[track_caller]
    fn with_places(&self, name: &'static str, dim: i64, keepdim: bool) -> (Traced, Traced) {
        // No closure: `#[track_caller]` would not pass the caller's location through it.
        let largest = self.reduced(name, Some(vec![dim]), keepdim, (Effect::Pooled, Zeros::Stay));
        let one = OneCall::begin();
        let places = self.reduced(name, Some(vec![dim]), keepdim, (Effect::Pooled, Zeros::Move));
        drop(one);
        let index_of = if name == "max_dim" { "argmax" } else { "argmin" };
        (largest, places.called(index_of, arguments![self, dim, keepdim]))
    }

    /// The standard deviation over dimensions.
    #[track_caller]
    pub fn std_dim(&self, dim: impl IntsOption, unbiased: bool, keepdim: bool) -> Traced {
        let over = (dim.ints_option(), keepdim);
        self.reduced_by("std_dim", over, unbiased, (Effect::ZeroOnly, Zeros::Stay))
    }

    /// The variance over dimensions.
    #[track_caller]
    pub fn var_dim(&self, dim: impl IntsOption, unbiased: bool, keepdim: bool) -> Traced {
        let over = (dim.ints_option(), keepdim);
        self.reduced_by("var_dim", over, unbiased, (Effect::ZeroOnly, Zeros::Stay))
    }

    /// A norm over dimensions.
    #[track_caller]
    pub fn norm_scalaropt_dim<S: Into<Scalar>>(
        &self,
        p: S,
        dim: impl Ints,
        keepdim: bool,
    ) -> Traced {
        // A negative power of zero is infinite. Of zeros, the zeroth norm is taken for one of
        // those.
        let p = number(p);
        let zeros = if p > 0.0 { Zeros::Stay } else { Zeros::Move };
        let over = (Some(dim.ints()), keepdim);
        self.reduced_by("norm_scalaropt_dim", over, p, (Effect::ZeroOnly, zeros))
    }

    /// The logarithm of the sum of exponentials over dimensions.
    #[track_caller]
    pub fn logsumexp(&self, dim: impl Ints, keepdim: bool) -> Traced {
        self.reduced("logsumexp", Some(dim.ints()), keepdim, (Effect::ZeroOnly, Zeros::Move))
    }

    /// An operation whose result at each position of a dimension depends on all positions.
    #[track_caller]
    fn along(
        &self,
        name: &'static str,
        over: i64,
        argument: impl Into<Argument>,
        zeros: Zeros,
    ) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let dim = dimension(cx, name, shape, over)?;
            let operator = zeros.operator(name, Effect::ZeroOnly);
            let operator = match (parts_first(shape, &[dim]), only_digit(shape, dim)) {
                _ if !holds_channels(&shape.dims()[dim]) => operator,
                // A fixed number of parts, such as the branches of a selective kernel. Where zeros
                // stay, as in a running sum, a part is zero only if other parts are too.
                (Some(_), Some(digit)) if zeros == Zeros::Move => {
                    operator.tied_to(same_position(&counts(shape), digit, 1))
                }
                _ => {
                    hold_together(cx, name, value, &[dim]);
                    operator
                }
            };
            Ok(cx.operate(operator, &[value], Form::Dims(shape.clone())))
        })
        .called(name, arguments![self, over, argument])
    }

    /// Exponentials, divided by their sum over a dimension.
    #[track_caller]
    pub fn softmax(&self, dim: i64, dtype: impl Into<Option<Kind>>) -> Traced {
        self.along("softmax", dim, dtype.into(), Zeros::Move)
    }

    /// The logarithm of [`softmax`](Self::softmax).
    #[track_caller]
    pub fn log_softmax(&self, dim: i64, dtype: impl Into<Option<Kind>>) -> Traced {
        self.along("log_softmax", dim, dtype.into(), Zeros::Move)
    }

    /// Cumulative sums over a dimension.
    #[track_caller]
    pub fn cumsum(&self, dim: i64, dtype: impl Into<Option<Kind>>) -> Traced {
        self.along("cumsum", dim, dtype.into(), Zeros::Stay)
    }

    /// Cumulative products over a dimension.
    #[track_caller]
    pub fn cumprod(&self, dim: i64, dtype: impl Into<Option<Kind>>) -> Traced {
        self.along("cumprod", dim, dtype.into(), Zeros::Stay)
    }

    /// Elements sorted over a dimension, and their former indices.
    #[track_caller]
    pub fn sort(&self, dim: i64, descending: bool) -> (Traced, Traced) {
        let one = OneCall::begin();
        let sorted = self.along("sort", dim, descending, Zeros::Stay);
        let places = self.along("sort", dim, descending, Zeros::Move);
        drop(one);
        let both = [sorted, places];
        all_called(&both, "sort", arguments![self, dim, descending]);
        both.into()
    }

    /// The `k` largest or smallest elements over a dimension, and their indices.
    #[track_caller]
    pub fn topk(&self, k: i64, dim: i64, largest: bool, sorted: bool) -> (Traced, Traced) {
        let both = [self.largest(k, dim, Zeros::Stay), self.largest(k, dim, Zeros::Move)];
        all_called(&both, "topk", arguments![self, k, dim, largest, sorted]);
        both.into()
    }

    #[track_caller]
    fn largest(&self, k: i64, dim: i64, zeros: Zeros) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let dim = dimension(cx, "topk", shape, dim)?;
            let factors = &shape.dims()[dim];
            if holds_channels(factors) {
                let shape = shape.describe();
                return Err(refused(
                    cx,
                    format!("`topk` over the channels of {shape}: which ones they are depends on all; take it over positions, or use `functional::opaque`"),
                ));
            }
            let found = answer(factors, cx.probe.scale);
            if !(0..=found).contains(&k) {
                let shape = shape.describe();
                return Err(refused(
                    cx,
                    format!("`topk` of {k} over dimension {dim} of {shape}, which has {found}"),
                ));
            }
            let form = Form::Dims(shape.with(dim, exact(k)));
            Ok(cx.operate(zeros.operator("topk", Effect::ZeroOnly), &[value], form))
        })
    }

    /// The last two dimensions, with zeros above a diagonal.
    #[track_caller]
    pub fn tril(&self, diagonal: i64) -> Traced {
        self.triangle("tril", diagonal)
    }

    /// The last two dimensions, with zeros below a diagonal.
    #[track_caller]
    pub fn triu(&self, diagonal: i64) -> Traced {
        self.triangle("triu", diagonal)
    }

    #[track_caller]
    fn triangle(&self, name: &'static str, diagonal: i64) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let last = shape.dims().len().saturating_sub(2);
            if shape.dims()[last..].iter().any(|dim| holds_channels(dim)) {
                let shape = shape.describe();
                return Err(refused(
                    cx,
                    format!("`{name}` of {shape}: a diagonal through channels is another one once some are gone; take it over positions"),
                ));
            }
            cx.numbers = vec![diagonal as f64];
            let form = Form::Dims(shape.clone());
            Ok(cx.operate(Operator::each(name, Effect::ZeroOnly), &[value], form))
        })
        .called(name, arguments![self, diagonal])
    }

    /// The first half of a dimension times the sigmoid of the second half.
    #[track_caller]
    pub fn glu(&self, dim: i64) -> Traced {
        let mut halves = self.chunk(2, dim);
        match (halves.pop(), halves.pop()) {
            (Some(gate), Some(half)) => half.g_mul(gate.sigmoid()),
            _ => Traced::failed(),
        }
    }
}

/// A dimension whose size `forward` writes out.
pub(super) fn exact(size: i64) -> Dim {
    smallvec![Factor::exact(size)]
}
