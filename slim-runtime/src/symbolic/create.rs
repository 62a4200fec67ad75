//! Tensors that `forward` makes: constants.

use std::panic::Location;

use tch::{Device, Kind, Scalar, Tensor};

use super::arguments::{Ints, number};
use super::table::operations;
use super::traced::refused;
use super::{Lift, Traced, pass};
use crate::graph::shape::Shape;
use crate::graph::{Effect, Form, Gate, Operator, arguments};
use crate::{Error, Result};

operations! {
    "Constants" {
        "zeros", "ones", "full", "rand", "randn", "empty", "arange", "linspace", "eye", "randint", "from_slice", "from_slice2", "Tensor::from", "new_zeros", "new_ones": "no channels; they follow those that they meet";
        "fill", "fill_", "zero_": "the channels of the tensor; zeros are gated, anything else is not";
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli_p": "the channels of the tensor; zeros are gated, anything else is not";
    }
}

/// A constant tensor of these sizes.
#[track_caller]
fn constant(name: &'static str, sizes: Vec<i64>, fill: Option<f64>, kind: Kind) -> Traced {
    let made = pass::record(Location::caller(), |cx| {
        if let Some(&size) = sizes.iter().find(|&&size| size < 0) {
            return Err(refused(
                cx,
                format!(
                    "`{name}` makes a tensor with {size} elements in a dimension; while slim reads `forward`, `size()` gives numbers of channels multiplied by a factor, so a difference between one and another number is wrong: pad with `constant_pad_nd`, or write `#[prune(keep)]` on the layer and its width as a number"
                ),
            ));
        }
        cx.numbers.extend(fill);
        cx.recording.asked.given.extend_from_slice(&sizes);
        let shape = Shape::new(sizes.iter().map(|&size| super::reduce::exact(size)));
        let operator = match fill {
            Some(0.0) => Operator::zeros(name),
            _ => Operator::constant(name),
        };
        Ok(cx.constant(operator, 0, shape))
    });
    let made = made.map_or_else(Traced::failed, |value| Traced::new(value.into()));
    made.called(name, arguments![&sizes, fill, kind])
}

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident $fill:expr;)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(size: impl Ints, (kind, _): (Kind, Device)) -> Traced {
                constant(stringify!($name), size.ints(), $fill, kind)
            }
        )+}
    };
}

constants! {
    /// A tensor of zeros.
    zeros Some(0.0);
    /// A tensor of ones.
    ones Some(1.0);
    /// A tensor of arbitrary values.
    empty None;
    /// A tensor of random numbers between zero and one.
    rand None;
    /// A tensor of normally distributed random numbers.
    randn None;
}

macro_rules! likes {
    ($($(#[$doc:meta])* $name:ident $is_zero:literal ($($argument:ident: $ty:ty),*);)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self $(, $argument: $ty)*) -> Traced {
                $(let _ = $argument;)*
                self.like(stringify!($name), $is_zero, None)
            }
        )+}
    };
}

likes! {
    /// Zeros in the shape of this tensor.
    zeros_like true ();
    /// Ones in the shape of this tensor.
    ones_like false ();
    /// Arbitrary values in the shape of this tensor.
    empty_like false ();
    /// Random numbers in the shape of this tensor.
    rand_like false ();
    /// Random numbers in the shape of this tensor.
    randn_like false ();
    /// Random zeros and ones in the shape of this tensor.
    bernoulli_p false (_p: f64);
}

impl Traced {
    #[track_caller]
    fn like(&self, name: &'static str, is_zero: bool, fill: Option<f64>) -> Traced {
        self.on_shape(Location::caller(), |cx, value, shape| {
            cx.numbers.extend(fill);
            let operator = if is_zero {
                Operator { gate: Gate::Always, ..Operator::each(name, Effect::Zero) }
            } else {
                Operator::ungated(name)
            };
            Ok(cx.operate(operator, &[value], Form::Dims(shape.clone())))
        })
        .called(name, arguments![self, fill])
    }

    /// One number in the shape of this tensor.
    #[track_caller]
    pub fn full_like<S: Into<Scalar>>(&self, fill_value: S) -> Traced {
        let fill = number(fill_value);
        self.like("full_like", fill == 0.0, Some(fill))
    }

    /// One number in the shape of this tensor.
    #[track_caller]
    pub fn fill<S: Into<Scalar>>(&self, value: S) -> Traced {
        let fill = number(value);
        self.like("fill", fill == 0.0, Some(fill))
    }

    /// Sets each element to a number, in place.
    #[track_caller]
    pub fn fill_<S: Into<Scalar>>(&mut self, value: S) -> Traced {
        let fill = number(value);
        self.in_place("fill", Location::caller(), |xs| xs.like("fill", fill == 0.0, Some(fill)))
    }

    /// Sets each element to zero, in place.
    #[track_caller]
    pub fn zero_(&mut self) -> Traced {
        self.in_place("zero", Location::caller(), |xs| xs.like("zero", true, None))
    }

    /// A tensor filled with one number.
    #[track_caller]
    pub fn full<S: Into<Scalar>>(
        size: impl Ints,
        fill_value: S,
        (kind, _): (Kind, Device),
    ) -> Traced {
        constant("full", size.ints(), Some(number(fill_value)), kind)
    }

    /// A tensor of zeros.
    #[track_caller]
    pub fn new_zeros(&self, size: impl Ints, (kind, _): (Kind, Device)) -> Traced {
        constant("new_zeros", size.ints(), Some(0.0), kind)
    }

    /// A tensor of ones.
    #[track_caller]
    pub fn new_ones(&self, size: impl Ints, (kind, _): (Kind, Device)) -> Traced {
        constant("new_ones", size.ints(), Some(1.0), kind)
    }

    /// A constant tensor of these numbers.
    #[track_caller]
    pub fn from_slice<T: tch::kind::Element>(data: &[T]) -> Traced {
        Lift::lift(Tensor::from_slice(data))
    }

    /// A constant matrix of these rows.
    #[track_caller]
    pub fn from_slice2<T: tch::kind::Element, U: AsRef<[T]>>(data: &[U]) -> Traced {
        Lift::lift(Tensor::from_slice2(data))
    }

    /// The identity matrix with `n` rows.
    #[track_caller]
    pub fn eye(n: i64, (kind, _): (Kind, Device)) -> Traced {
        constant("eye", vec![n, n], None, kind)
    }

    /// A tensor of random integers.
    #[track_caller]
    pub fn randint(_high: i64, size: impl Ints, (kind, _): (Kind, Device)) -> Traced {
        constant("randint", size.ints(), None, kind)
    }

    /// Evenly spaced numbers from `start` to `end`.
    #[track_caller]
    pub fn linspace<S: Into<Scalar>>(
        start: S,
        end: S,
        steps: i64,
        _options: (Kind, Device),
    ) -> Traced {
        let options = (Kind::Double, Device::Cpu);
        match Tensor::f_linspace(number(start), number(end), steps, options) {
            Ok(made) => Lift::lift(made),
            Err(cause) => {
                pass::record(Location::caller(), |cx| -> Result<()> {
                    Err(Error::torch(cx.path())(cause))
                });
                Traced::failed()
            }
        }
    }

    /// The numbers 0, 1, 2, … below `end`.
    #[track_caller]
    pub fn arange<S: Into<Scalar>>(end: S, (kind, _): (Kind, Device)) -> Traced {
        constant("arange", vec![number(end).ceil() as i64], None, kind)
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

/// Lifts a field or a constant where `forward` needs the type of a computed tensor.
impl From<Tensor> for Traced {
    #[track_caller]
    fn from(tensor: Tensor) -> Self {
        Lift::lift(tensor)
    }
}
