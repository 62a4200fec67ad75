//! Tensors that `forward` makes: constants.

use std::panic::Location;

use tch::{Device, Kind, Scalar, Tensor};

use super::arguments::{Ints, number};
use super::table::operations;
use super::{Lift, Traced, pass};
use crate::graph::shape::Shape;
use crate::graph::{Effect, Form, Gate, Operator};

operations! {
    "Constants" {
        "zeros", "ones", "full", "rand", "randn", "empty", "arange", "from_slice", "from_slice2", "Tensor::from", "new_zeros", "new_ones": "no channels; they follow those that they meet";
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli_p": "the channels of the tensor; zeros are gated, anything else is not";
    }
}

/// A constant of these sizes.
#[track_caller]
fn constant(name: &'static str, sizes: Vec<i64>, is_zero: bool) -> Traced {
    let made = pass::record(Location::caller(), |cx| {
        cx.recording.asked.given.extend_from_slice(&sizes);
        let shape = Shape::new(sizes.iter().map(|&size| super::reduce::exact(size)));
        let operator = if is_zero { Operator::zeros(name) } else { Operator::constant(name) };
        Ok(cx.constant(operator, 0, shape))
    });
    made.map_or_else(Traced::failed, |value| Traced::new(value.into()))
}

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident $is_zero:literal;)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(size: impl Ints, _options: (Kind, Device)) -> Traced {
                constant(stringify!($name), size.ints(), $is_zero)
            }
        )+}
    };
}

constants! {
    /// Zeros.
    zeros true;
    /// Ones.
    ones false;
    /// Anything.
    empty false;
    /// Random numbers between zero and one.
    rand false;
    /// Normally distributed random numbers.
    randn false;
}

macro_rules! likes {
    ($($(#[$doc:meta])* $name:ident $is_zero:literal ($($argument:ident: $ty:ty),*);)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self $(, $argument: $ty)*) -> Traced {
                $(let _ = $argument;)*
                self.like(stringify!($name), $is_zero)
            }
        )+}
    };
}

likes! {
    /// Zeros in place of the elements.
    zeros_like true ();
    /// Ones in place of the elements.
    ones_like false ();
    /// Anything in place of the elements.
    empty_like false ();
    /// Random numbers in place of the elements.
    rand_like false ();
    /// Random numbers in place of the elements.
    randn_like false ();
    /// Ones here and there, in place of the elements.
    bernoulli_p false (_p: f64);
}

impl Traced {
    #[track_caller]
    fn like(&self, name: &'static str, is_zero: bool) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let operator = if is_zero {
                Operator { gate: Gate::Always, ..Operator::each(name, Effect::Zero) }
            } else {
                Operator::ungated(name)
            };
            Ok(cx.operate(operator, &[value], Form::Dims(shape.clone())))
        })
    }

    /// A number in place of the elements.
    #[track_caller]
    pub fn full_like<S: Into<Scalar>>(&self, fill_value: S) -> Traced {
        self.like("full_like", number(fill_value) == 0.0)
    }

    /// A number.
    #[track_caller]
    pub fn full<S: Into<Scalar>>(
        size: impl Ints,
        fill_value: S,
        _options: (Kind, Device),
    ) -> Traced {
        constant("full", size.ints(), number(fill_value) == 0.0)
    }

    /// Zeros.
    #[track_caller]
    pub fn new_zeros(&self, size: impl Ints, _options: (Kind, Device)) -> Traced {
        constant("new_zeros", size.ints(), true)
    }

    /// Ones.
    #[track_caller]
    pub fn new_ones(&self, size: impl Ints, _options: (Kind, Device)) -> Traced {
        constant("new_ones", size.ints(), false)
    }

    /// Numbers that `forward` has.
    #[track_caller]
    pub fn from_slice<T: tch::kind::Element>(data: &[T]) -> Traced {
        Lift::lift(Tensor::from_slice(data))
    }

    /// Rows of numbers that `forward` has.
    #[track_caller]
    pub fn from_slice2<T: tch::kind::Element, U: AsRef<[T]>>(data: &[U]) -> Traced {
        Lift::lift(Tensor::from_slice2(data))
    }

    /// Numbers from zero.
    #[track_caller]
    pub fn arange<S: Into<Scalar>>(end: S, _options: (Kind, Device)) -> Traced {
        constant("arange", vec![number(end).ceil() as i64], false)
    }
}

macro_rules! from_numbers {
    ($($ty:ty)+) => {$(
        impl From<$ty> for Traced {
            #[track_caller]
            fn from(number: $ty) -> Self {
                Lift::lift(Tensor::from(number))
            }
        }
    )+};
}

from_numbers!(f64 f32 i64 i32 bool);
