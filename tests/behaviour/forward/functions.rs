//! Functions and methods that `#[forward]` makes generic, called in the usual ways.

use slim_runtime::forward;
use tch::{Device, Kind, Tensor};

#[forward]
pub(crate) fn doubled(xs: &Tensor) -> Tensor {
    xs * 2.
}

#[forward]
fn both(xs: &Tensor, others: &[Tensor]) -> (Tensor, Vec<Tensor>) {
    (doubled(xs), others.iter().map(doubled).collect())
}

#[forward]
fn owned(xs: Tensor, other: Option<&Tensor>) -> Tensor {
    match other {
        Some(other) => xs + other,
        None => xs,
    }
}

#[test]
fn they_take_real_tensors_as_before() {
    let xs = Tensor::ones([2], (Kind::Float, Device::Cpu));
    assert_eq!(Vec::<f32>::try_from(doubled(&xs)).unwrap(), [2., 2.]);
    let (one, others) = both(&xs, &[xs.shallow_clone(), &xs + 1.]);
    assert_eq!(Vec::<f32>::try_from(one).unwrap(), [2., 2.]);
    assert_eq!(Vec::<f32>::try_from(&others[1]).unwrap(), [4., 4.]);
    assert_eq!(Vec::<f32>::try_from(owned(xs.shallow_clone(), Some(&xs))).unwrap(), [2., 2.]);
    assert_eq!(Vec::<f32>::try_from(owned(xs, None)).unwrap(), [1., 1.]);
}
