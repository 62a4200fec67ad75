//! Element-wise arithmetic of two tensors, or of a tensor and a number.

use std::panic::Location;
use std::rc::Rc;

use tch::{Scalar, Tensor};

use super::arguments::number;
use super::lift::{self, Join};
use super::pass::OneCall;
use super::table::operations;
use super::traced::{refused, shaped};
use super::{Lift, Traced, pass};
use crate::error::WiringError;
use crate::graph::shape::{Dim, Shape, answer, holds_channels, is_assumed};
use crate::graph::{Argument, Effect, Form, Gate, Operator, Tracer, Value, arguments};
use crate::{Error, Flow, Result};

operations! {
    "Sums and products of tensors" {
        "+", "g_add", "add": "channels at one position become one; gated where both are";
        "-", "g_sub", "sub", "rsub": "as a sum";
        "*", "g_mul", "mul": "channels at one position become one; gated where either is; a single channel multiplies all, and stays";
        "/", "g_div", "div": "channels at one position become one; gated where the dividend is and the divisor is not";
        "maximum", "minimum", "fmax", "fmin": "channels at one position become one; gated where both are";
        "gt_tensor", "lt_tensor", "ne_tensor", "atan2", "hypot": "channels at one position become one; gated where both are";
        "ge_tensor", "le_tensor", "eq_tensor": "channels at one position become one, and are un-gated";
        "addcmul", "lerp": "as the sums and products that they are";
        "where_self", "masked_fill": "channels at one position become one; gated where all are, and the filled-in number is zero; a single channel or a constant in place of the tensor un-gates";
        "a constant tensor", "a tensor of the model": "follows the channels that it meets; added, it un-gates them";
    }
    "Arithmetic with numbers" {
        "+ 1.0", "- 1.0", "1.0 - x", "g_add_scalar", "g_sub_scalar", "rsub_scalar": "un-gates, unless the number is zero";
        "* 2.0", "/ 2.0", "-x", "g_mul_scalar", "g_div_scalar": "keeps channels as they are";
        "1.0 / x", "pow_tensor_scalar", "pow_": "gated where zero stays zero";
    }
}

/// The right operand of an operator, or an argument where tch takes a tensor.
pub trait Operand {
    /// Joins the operand with a symbolic tensor.
    #[doc(hidden)]
    fn join(&self, cx: &mut Tracer, left: &Flow, how: &Joint) -> Result<Flow>;

    /// The operand as the argument of a call.
    #[doc(hidden)]
    fn argument(&self) -> Argument;

    /// Whether the operand is a symbolic tensor that a failed operation returned.
    #[doc(hidden)]
    fn has_failed(&self) -> bool {
        false
    }
}

/// How two tensors are joined.
#[doc(hidden)]
pub struct Joint {
    pub(super) name: &'static str,
    pub(super) symbol: &'static str,
    /// The operator for channels at one position.
    pub(super) operator: fn(&'static str) -> Operator,
    /// How a symbolic tensor is joined with a real one.
    pub(super) real: Join,
    /// The sides whose zeros give zero, whatever the other side holds.
    pub(super) zero: Zero,
    /// Whether the symbolic tensor is on the right.
    pub(super) reversed: bool,
    /// The function of an element and a number.
    pub(super) number: fn(f64, f64) -> f64,
}

/// The sides of an operation whose zeros give zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Neither,
    Left,
    Either,
}

pub(super) const SUM: Joint = Joint {
    name: "add",
    symbol: "+",
    operator: Operator::sum,
    real: Join::Shift,
    zero: Zero::Neither,
    reversed: false,
    number: |x, s| x + s,
};
pub(super) const DIFFERENCE: Joint =
    Joint { name: "sub", symbol: "-", operator: Operator::difference, number: |x, s| x - s, ..SUM };
pub(super) const PRODUCT: Joint = Joint {
    name: "mul",
    symbol: "*",
    operator: Operator::product,
    real: Join::Scale,
    zero: Zero::Either,
    number: |x, s| x * s,
    ..SUM
};
pub(super) const QUOTIENT: Joint = Joint {
    name: "div",
    symbol: "/",
    operator: |name| Operator::zip(name, Gate::Dividend),
    real: Join::Divide,
    zero: Zero::Left,
    number: |x, s| x / s,
    ..SUM
};
const EXTREME: Joint = Joint {
    name: "maximum",
    symbol: "maximum",
    operator: |name| Operator::zip(name, Gate::All),
    ..SUM
};

/// A comparison that holds for two zeros, so that its result is not zero.
const COMPARISON: Joint = Joint { operator: |name| Operator::zip(name, Gate::Never), ..EXTREME };

impl Operand for Traced {
    fn join(&self, cx: &mut Tracer, left: &Flow, how: &Joint) -> Result<Flow> {
        let Some(right) = self.flow() else { return Ok(left.clone()) };
        let joined = join(cx, left, &right, how)?;
        cx.call(how.name, arguments![left, &right], &joined);
        Ok(joined)
    }

    fn argument(&self) -> Argument {
        self.into()
    }

    fn has_failed(&self) -> bool {
        self.flow().is_none()
    }
}

impl Operand for Tensor {
    fn join(&self, cx: &mut Tracer, left: &Flow, how: &Joint) -> Result<Flow> {
        let divides = how.reversed && how.symbol == "/";
        let (name, real) = if divides { ("rdiv", Join::DivideBy) } else { (how.name, how.real) };
        let joined = lift::joined(cx, how.name, left, self, real)?;
        cx.call(name, arguments![left, self], &joined);
        Ok(joined)
    }

    fn argument(&self) -> Argument {
        self.into()
    }
}

macro_rules! numbers_as_operands {
    ($($number:ty)+) => {$(
        impl Operand for $number {
            fn join(&self, cx: &mut Tracer, left: &Flow, how: &Joint) -> Result<Flow> {
                let (number, operation) = (*self as f64, how.number);
                let joined = with_number(cx, left, how.name, number, operation)?;
                cx.call(how.name, arguments![left, number], &joined);
                Ok(joined)
            }

            fn argument(&self) -> Argument {
                (*self as f64).into()
            }
        }
    )+};
}

numbers_as_operands!(f64 f32 i64 i32);

impl<T: Operand + ?Sized> Operand for &T {
    fn join(&self, cx: &mut Tracer, left: &Flow, how: &Joint) -> Result<Flow> {
        (**self).join(cx, left, how)
    }

    fn argument(&self) -> Argument {
        (**self).argument()
    }

    fn has_failed(&self) -> bool {
        (**self).has_failed()
    }
}

/// Joins two symbolic tensors element by element.
fn join(cx: &mut Tracer, a: &Flow, b: &Flow, how: &Joint) -> Result<Flow> {
    let known = cx.known_width(a).filter(|&width| width > 0).or_else(|| cx.known_width(b));
    let known = known.and_then(|width| usize::try_from(width).ok());
    if known == Some(0) {
        // A constant meets a model input that no layer has read, which keeps all of its channels
        // anyway.
        if a.value().is_none() || b.value().is_none() {
            return Ok(if a.value().is_none() { a.clone() } else { b.clone() });
        }
    }
    let (a, b) = (cx.channels(a, known)?, cx.channels(b, known)?);
    if let (Form::Loose(_), Form::Loose(_)) = (&a.form, &b.form) {
        let (a, b) = (Flow::from(a), Flow::from(b));
        return match how.symbol {
            "+" => cx.add(&a, &b),
            "*" => cx.multiply(&a, &b),
            _ => cx.join(how.symbol, &a, &b, (how.operator)(how.name)),
        };
    }
    let rank = |value: &Value| value.form.shape().map(Shape::rank);
    let rank = rank(&a).or_else(|| rank(&b));
    let ((a, left), (b, right)) = (shaped(cx, &a, rank), shaped(cx, &b, rank));
    let shape = broadcast(cx, (&a, &left), (&b, &right), how)?;
    let form = Form::Dims(shape);
    let operator = (how.operator)(how.name);
    if b.len() == 0 || a.len() == 0 {
        // One operand is a constant.
        let (value, stays) = if b.len() == 0 {
            (&a, how.zero != Zero::Neither)
        } else {
            (&b, how.zero == Zero::Either)
        };
        let operator = match (stays, how.symbol) {
            (true, _) => Operator::each(how.name, Effect::ZeroOnly),
            (false, "/") => Operator::pole(how.name),
            (false, _) => Operator::ungated(how.name),
        };
        return Ok(cx.operate(operator, &[value], form).into());
    }
    let (of_left, of_right) = (aligned(&left, &right), aligned(&right, &left));
    if of_left == of_right {
        return Ok(cx.operate(operator, &[&a, &b], form).into());
    }
    let (wide, one, stays) = match (a.len(), b.len()) {
        (_, 1) => (&a, &b, how.zero != Zero::Neither),
        (1, _) => (&b, &a, how.zero == Zero::Either),
        _ => {
            let (left, right) = (left.describe(), right.describe());
            return Err(refused(
                cx,
                format!(
                    "`{}` of {left} and {right}: their channels are in different dimensions; `permute` or `view` one of them before",
                    how.symbol
                ),
            ));
        }
    };
    let gate = match (stays, how.symbol) {
        (true, _) => Gate::First,
        (false, "/") => Gate::Pole,
        (false, _) => Gate::Never,
    };
    let operator = Operator { gate, ..Operator::broadcast(how.name, cx.path()) };
    Ok(cx.operate(operator, &[wide, one], form).into())
}

/// The channel factors of a tensor: the dimension of each after broadcasting with `other`, and its
/// count.
fn aligned(shape: &Shape, other: &Shape) -> Vec<(usize, usize)> {
    let rank = shape.rank().max(other.rank());
    shape.digits().iter().map(|&(dim, count)| (dim + rank - shape.rank(), count)).collect()
}

/// The dimensions of the result when two tensors are broadcast with each other.
pub(super) fn broadcast(
    cx: &Tracer,
    (a, left): (&Value, &Shape),
    (b, right): (&Value, &Shape),
    how: &Joint,
) -> Result<Shape> {
    let (scale, rank) = (cx.probe.scale, left.rank().max(right.rank()));
    let mut dims: Vec<Dim> = Vec::new();
    for i in 0..rank {
        let of = |shape: &Shape| {
            let at = (i + shape.rank()).checked_sub(rank);
            at.map(|at| shape.dims()[at].clone()).unwrap_or_default()
        };
        let (x, y) = (of(left), of(right));
        let (sizes, channels) =
            ((answer(&x, scale), answer(&y, scale)), (holds_channels(&x), holds_channels(&y)));
        dims.push(match (sizes, channels) {
            _ if x == y => x,
            ((_, 1), _) => x,
            ((1, _), _) => y,
            ((s, t), (true, false)) if s == t => x,
            ((s, t), (false, true)) if s == t => y,
            ((s, t), (false, false)) if s == t => if is_assumed(&x) { y } else { x },
            (_, (true, true)) if cx.have_one_size(&x, &y) => x,
            (_, (true, true)) => {
                let named = |value: &Value| (value.source.to_string(), value.len());
                let (left, right) = (named(a), named(b));
                return Err(Error::Wiring(WiringError::Union { path: cx.path(), operator: how.symbol, left, right }));
            }
            _ => {
                let (left, right) = (left.describe(), right.describe());
                return Err(refused(cx, format!(
                    "`{}` of {left} and {right}: sizes differ; a number of channels that is written out has to be computed from `size()`, and sizes of positions may depend on the input's: write its shape on the struct, as in `#[prune(input = [3, 224, 224])]`", how.symbol
                )));
            }
        });
    }
    Ok(Shape::new(dims))
}

/// Applies an operation with a number to each element.
fn with_number(
    cx: &mut Tracer,
    flow: &Flow,
    name: &'static str,
    number: f64,
    operation: fn(f64, f64) -> f64,
) -> Result<Flow> {
    cx.numbers = vec![number];
    let map = Rc::new(move |values: &[f64]| {
        Ok(values.iter().map(|&value| operation(value, number)).collect())
    });
    let operator = Operator::function(name, operation(0.0, number), map);
    cx.each_of(flow, &operator)
}

impl Traced {
    #[track_caller]
    pub(super) fn joined(&self, other: &(impl Operand + ?Sized), how: &Joint) -> Traced {
        if other.has_failed() {
            return Traced::failed();
        }
        self.on_flow(Location::caller(), |cx, flow| other.join(cx, flow, how))
    }

    /// Applies an operation with a number to each element.
    #[track_caller]
    pub(super) fn with_number(
        &self,
        name: &'static str,
        number: f64,
        operation: fn(f64, f64) -> f64,
    ) -> Traced {
        self.on_flow(Location::caller(), |cx, flow| with_number(cx, flow, name, number, operation))
    }

    /// Changes the elements in place, by an operation that takes another tensor.
    #[track_caller]
    pub(super) fn join_in_place(&mut self, other: &(impl Operand + ?Sized), how: &Joint) -> Traced {
        let done = self.joined(other, how);
        self.put(done, how.name, Location::caller())
    }

    /// Replaces this tensor's elements by the result of an operation.
    pub(super) fn put(
        &mut self,
        done: Traced,
        name: &str,
        at: &'static Location<'static>,
    ) -> Traced {
        if self.memory.views().len() > 1 {
            pass::record(at, |cx| -> Result<()> {
                Err(refused(
                    cx,
                    format!(
                        "`{name}_` changes a tensor in place that others are views of, or that is a view itself; write `{name}`"
                    ),
                ))
            });
            return Traced::failed();
        }
        self.memory.set(done.flow());
        self.shallow_clone()
    }
}

macro_rules! joins {
    ($($(#[$doc:meta])* $name:ident $in_place:ident $joint:expr;)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name<T: Operand>(&self, other: T) -> Traced {
                self.joined(&other, &$joint)
            }

            /// The same, in place.
            #[track_caller]
            pub fn $in_place<T: Operand>(&mut self, other: T) -> Traced {
                self.join_in_place(&other, &$joint)
            }
        )+}
    };
}

joins! {
    /// `self + other`
    g_add g_add_ SUM;
    /// `self - other`
    g_sub g_sub_ DIFFERENCE;
    /// `self * other`
    g_mul g_mul_ PRODUCT;
    /// `self / other`
    g_div g_div_ QUOTIENT;
    /// `self + other`
    add add_ SUM;
    /// `self - other`
    sub sub_ DIFFERENCE;
    /// `self * other`
    mul mul_ PRODUCT;
    /// `self / other`
    div div_ QUOTIENT;
    /// The larger of each two elements.
    maximum maximum_ EXTREME;
    /// The smaller of each two elements.
    minimum minimum_ Joint { name: "minimum", symbol: "minimum", ..EXTREME };
    /// The larger of each two elements.
    fmax fmax_ Joint { name: "fmax", symbol: "fmax", ..EXTREME };
    /// The smaller of each two elements.
    fmin fmin_ Joint { name: "fmin", symbol: "fmin", ..EXTREME };
}

macro_rules! named_joins {
    ($($(#[$doc:meta])* $name:ident $in_place:ident $joint:expr;)+) => {
        joins! {$(
            $(#[$doc])*
            $name $in_place Joint { name: stringify!($name), symbol: stringify!($name), ..$joint };
        )+}
    };
}

named_joins! {
    /// Whether each element is greater than the other tensor's.
    gt_tensor gt_tensor_ EXTREME;
    /// Whether each element is less than the other tensor's.
    lt_tensor lt_tensor_ EXTREME;
    /// Whether the elements differ.
    ne_tensor ne_tensor_ EXTREME;
    /// The angle of the point `(other, self)`.
    atan2 atan2_ EXTREME;
    /// The length of the hypotenuse over `self` and `other`.
    hypot hypot_ EXTREME;
    /// Whether each element is at least the other tensor's.
    ge_tensor ge_tensor_ COMPARISON;
    /// Whether each element is at most the other tensor's.
    le_tensor le_tensor_ COMPARISON;
    /// Whether the elements are the same.
    eq_tensor eq_tensor_ COMPARISON;
}

impl Traced {
    /// `other - self`
    #[track_caller]
    pub fn rsub<T: Operand>(&self, other: T) -> Traced {
        self.joined(&other, &Joint { name: "rsub", reversed: true, ..DIFFERENCE })
    }

    /// `self + a * b`
    #[track_caller]
    pub fn addcmul<A: Lift, B: Operand>(&self, a: A, b: B) -> Traced {
        self.g_add(a.lift().g_mul(b))
    }

    /// `self + weight * (end - self)`
    #[track_caller]
    pub fn lerp<S: Into<Scalar>>(&self, end: &Traced, weight: S) -> Traced {
        self.g_add(end.g_sub(self).g_mul_scalar(weight))
    }

    /// `self` where `condition` holds, else `other`.
    #[track_caller]
    pub fn where_self<C: Lift, T: Lift>(&self, condition: C, other: T) -> Traced {
        let joint = Joint { name: "where", symbol: "where_self", ..EXTREME };
        let (condition, other) = (condition.lift(), other.lift());
        let one = OneCall::begin();
        let joined = self.joined(&other, &joint).joined(
            &condition,
            &Joint { name: "where", symbol: "where_self", zero: Zero::Left, ..EXTREME },
        );
        drop(one);
        joined.called("where_self", arguments![self, &condition, &other])
    }

    /// `self`, but `value` where `mask` holds.
    #[track_caller]
    pub fn masked_fill<M: Lift, S: Into<Scalar>>(&self, mask: M, value: S) -> Traced {
        let joint =
            Joint { name: "masked_fill", symbol: "masked_fill", zero: Zero::Left, ..EXTREME };
        let (mask, value) = (mask.lift(), number(value));
        let one = OneCall::begin();
        let filled = self.joined(&mask, &joint);
        // Only whether `value` is zero matters: -inf is no pole here.
        let fill = |_, value| if value == 0.0 { 0.0 } else { 1.0 };
        let filled = filled.with_number("masked_fill", value, fill);
        drop(one);
        filled.called("masked_fill", arguments![self, &mask, value])
    }
}
