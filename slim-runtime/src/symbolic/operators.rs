//! Operators, and arithmetic with numbers.

use std::ops;
use std::panic::Location;

use tch::{Scalar, Tensor};

use super::Traced;
use super::arguments::number;
use super::arithmetic::{DIFFERENCE, Joint, Operand, PRODUCT, QUOTIENT, SUM};
use crate::graph::arguments;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident $in_place:ident |$value:ident, $number:ident| $result:expr;)+) => {
        impl Traced {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name<S: Into<Scalar>>(&self, other: S) -> Traced {
                let other = number(other);
                self.with_number(stringify!($name), other, |$value, $number| $result)
                    .called(stringify!($name), arguments![self, other])
            }

            /// The same, in place.
            #[track_caller]
            pub fn $in_place<S: Into<Scalar>>(&mut self, other: S) -> Traced {
                let other = number(other);
                let at = Location::caller();
                self.in_place(stringify!($name), at, |xs| xs.$name(other))
            }
        )+}
    };
}

numbers! {
    /// `self + other`
    g_add_scalar g_add_scalar_ |x, s| x + s;
    /// `self - other`
    g_sub_scalar g_sub_scalar_ |x, s| x - s;
    /// `self * other`
    g_mul_scalar g_mul_scalar_ |x, s| x * s;
    /// `self / other`
    g_div_scalar g_div_scalar_ |x, s| x / s;
    /// `other - self`
    rsub_scalar rsub_scalar_ |x, s| s - x;
    /// `self` to the power of `other`
    pow_tensor_scalar pow_tensor_scalar_ |x, s| x.powf(s);
    /// `self` to the power of `other`
    pow pow_ |x, s| x.powf(s);
}

macro_rules! operators {
    ($($trait:ident $method:ident $assign:ident $assign_method:ident $joint:expr;)+) => {$(
        impl<T: Operand> ops::$trait<T> for Traced {
            type Output = Traced;
            #[track_caller]
            fn $method(self, other: T) -> Traced {
                self.joined(&other, &$joint)
            }
        }

        impl<T: Operand> ops::$trait<T> for &Traced {
            type Output = Traced;
            #[track_caller]
            fn $method(self, other: T) -> Traced {
                self.joined(&other, &$joint)
            }
        }

        impl<T: Operand> ops::$assign<T> for Traced {
            #[track_caller]
            fn $assign_method(&mut self, other: T) {
                self.join_in_place(&other, &$joint);
            }
        }
    )+};
}

operators! {
    Add add AddAssign add_assign SUM;
    Sub sub SubAssign sub_assign DIFFERENCE;
    Mul mul MulAssign mul_assign PRODUCT;
    Div div DivAssign div_assign QUOTIENT;
}

impl ops::Neg for Traced {
    type Output = Traced;
    #[track_caller]
    fn neg(self) -> Traced {
        self.g_mul_scalar(-1.0)
    }
}

impl ops::Neg for &Traced {
    type Output = Traced;
    #[track_caller]
    fn neg(self) -> Traced {
        self.g_mul_scalar(-1.0)
    }
}

macro_rules! reversed {
    ($($trait:ident $method:ident |$number:ident, $xs:ident| $result:expr;)+) => {$(
        reversed!(@ $trait $method |$number, $xs| $result; i64 i32 f64 f32);
    )+};
    (@ $trait:ident $method:ident |$number:ident, $xs:ident| $result:expr; $($s:ty)+) => {$(
        impl ops::$trait<Traced> for $s {
            type Output = Traced;
            #[track_caller]
            fn $method(self, $xs: Traced) -> Traced {
                let $number = self as f64;
                $result
            }
        }
        impl ops::$trait<&Traced> for $s {
            type Output = Traced;
            #[track_caller]
            fn $method(self, $xs: &Traced) -> Traced {
                let $number = self as f64;
                $result
            }
        }
    )+};
}

reversed! {
    Add add |number, xs| xs.g_add_scalar(number);
    Sub sub |number, xs| xs.rsub_scalar(number);
    Mul mul |number, xs| xs.g_mul_scalar(number);
    Div div |number, xs| xs.divides(number);
}

impl Traced {
    /// `number / self`
    #[track_caller]
    fn divides(&self, number: f64) -> Traced {
        self.with_number("div", number, |x, s| s / x).called("rdiv", arguments![self, number])
    }
}

macro_rules! real_left {
    ($($trait:ident $method:ident $joint:expr;)+) => {$(
        real_left!(@ $trait $method $joint; [Tensor, Traced] [Tensor, &Traced] [&Tensor, Traced] [&Tensor, &Traced]);
    )+};
    (@ $trait:ident $method:ident $joint:expr; $([$a:ty, $b:ty])+) => {$(
        impl ops::$trait<$b> for $a {
            type Output = Traced;
            #[track_caller]
            fn $method(self, other: $b) -> Traced { other.joined(&self, &$joint) }
        }
    )+};
}

real_left! {
    Add add SUM;
    Sub sub Joint { name: "rsub", reversed: true, ..DIFFERENCE };
    Mul mul PRODUCT;
    Div div Joint { reversed: true, ..QUOTIENT };
}
