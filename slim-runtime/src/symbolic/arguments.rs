//! Types that tch's methods take as lists of numbers.

use tch::Scalar;

/// A list of sizes or dimensions, of any type that tch takes.
pub trait Ints {
    /// The numbers.
    fn ints(&self) -> Vec<i64>;
}

impl Ints for i64 {
    fn ints(&self) -> Vec<i64> {
        vec![*self]
    }
}

impl Ints for [i64] {
    fn ints(&self) -> Vec<i64> {
        self.to_vec()
    }
}

impl Ints for Vec<i64> {
    fn ints(&self) -> Vec<i64> {
        self.clone()
    }
}

impl<const N: usize> Ints for [i64; N] {
    fn ints(&self) -> Vec<i64> {
        self.to_vec()
    }
}

impl<T: Ints + ?Sized> Ints for &T {
    fn ints(&self) -> Vec<i64> {
        (**self).ints()
    }
}

/// A list of dimensions that may be missing, of any type that tch takes.
pub trait IntsOption {
    /// The numbers, if there are any.
    fn ints_option(&self) -> Option<Vec<i64>>;
}

impl<T: Ints> IntsOption for T {
    fn ints_option(&self) -> Option<Vec<i64>> {
        Some(self.ints())
    }
}

impl<T: Ints> IntsOption for Option<T> {
    fn ints_option(&self) -> Option<Vec<i64>> {
        self.as_ref().map(Ints::ints)
    }
}

/// A list of factors, of any type that tch takes.
pub trait Doubles {
    /// The numbers.
    fn doubles(&self) -> Vec<f64>;
}

impl Doubles for [f64] {
    fn doubles(&self) -> Vec<f64> {
        self.to_vec()
    }
}

impl Doubles for Vec<f64> {
    fn doubles(&self) -> Vec<f64> {
        self.clone()
    }
}

impl<const N: usize> Doubles for [f64; N] {
    fn doubles(&self) -> Vec<f64> {
        self.to_vec()
    }
}

impl<T: Doubles + ?Sized> Doubles for &T {
    fn doubles(&self) -> Vec<f64> {
        (**self).doubles()
    }
}

/// An integer or a float, as `f64`.
pub(super) fn number<S: Into<Scalar>>(scalar: S) -> f64 {
    f64::from(scalar.into())
}
