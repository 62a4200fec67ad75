//! Traits for functions that take real and symbolic tensors. `#[forward]` makes such functions of
//! inherent methods and free functions.
#![doc(hidden)]

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use tch::Tensor;

use super::traced::refused;
use super::{Lift, Traced, pass};
use crate::Result;

/// A real or a symbolic tensor, or a reference to one.
#[diagnostic::on_unimplemented(
    message = "expected a tensor, found `{Self}`",
    label = "not a tensor"
)]
pub trait TensorLike {
    /// The common type with the tensor type `T`: symbolic if either is.
    type With<T>;
}

impl TensorLike for Tensor {
    type With<T> = T;
}

impl TensorLike for Traced {
    type With<T> = Traced;
}

/// The common type of two tensors.
pub type Common<X, T> = <X as TensorLike>::With<T>;

/// A borrowed tensor, or a real tensor that was lifted to a symbolic one.
#[derive(Debug)]
pub enum Held<'a, T> {
    /// The tensor itself.
    Borrowed(&'a T),
    /// The symbolic tensor of a real one.
    Lifted(T),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Held::Borrowed(tensor) => tensor,
            Held::Lifted(tensor) => tensor,
        }
    }
}

/// Converts `&Tensor` to the common type `T`.
#[diagnostic::on_unimplemented(
    message = "expected a tensor, found `{Self}`",
    label = "not a tensor"
)]
pub trait BorrowTensor<T> {
    /// Borrows the tensor, or lifts it to a symbolic one.
    #[track_caller]
    fn borrow_tensor(&self) -> Held<'_, T>;
}

impl BorrowTensor<Tensor> for Tensor {
    fn borrow_tensor(&self) -> Held<'_, Tensor> {
        Held::Borrowed(self)
    }
}

impl BorrowTensor<Traced> for Tensor {
    #[track_caller]
    fn borrow_tensor(&self) -> Held<'_, Traced> {
        Held::Lifted(Lift::lift(self))
    }
}

impl BorrowTensor<Traced> for Traced {
    fn borrow_tensor(&self) -> Held<'_, Traced> {
        Held::Borrowed(self)
    }
}

macro_rules! pointers {
    ($($pointer:ty),+) => {$(
        #[diagnostic::do_not_recommend]
        impl<X: TensorLike + ?Sized> TensorLike for $pointer {
            type With<T> = X::With<T>;
        }

        #[diagnostic::do_not_recommend]
        impl<T, X: BorrowTensor<T> + ?Sized> BorrowTensor<T> for $pointer {
            #[track_caller]
            fn borrow_tensor(&self) -> Held<'_, T> {
                (**self).borrow_tensor()
            }
        }
    )+};
}

pointers!(&X, &mut X, Box<X>, Rc<X>, Arc<X>);

/// Converts `Tensor` to the common type `T`.
#[diagnostic::on_unimplemented(
    message = "expected a tensor by value, found `{Self}`",
    label = "not a `Tensor`",
    note = "of a reference to a tensor, write `xs.shallow_clone()`"
)]
pub trait IntoTensor<T> {
    /// Lifts a real tensor if the common type is symbolic.
    #[track_caller]
    fn into_tensor(self) -> T;
}

impl IntoTensor<Tensor> for Tensor {
    fn into_tensor(self) -> Tensor {
        self
    }
}

impl IntoTensor<Traced> for Tensor {
    #[track_caller]
    fn into_tensor(self) -> Traced {
        Lift::lift(self)
    }
}

impl IntoTensor<Traced> for Traced {
    fn into_tensor(self) -> Traced {
        self
    }
}

/// The outputs of a forward pass with an argument for which a symbolic pass has no value: none.
/// Records an error.
#[track_caller]
pub fn needs_argument(method: &'static str, argument: &'static str) -> Vec<Traced> {
    pass::record(std::panic::Location::caller(), |cx| -> Result<()> {
        let reason = format!(
            "`{method}` takes `{argument}`, for which a symbolic pass has no value; take tensors, and a `train: bool` last"
        );
        Err(refused(cx, reason))
    });
    Vec::new()
}
