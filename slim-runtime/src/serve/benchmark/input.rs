//! Input for measurements.

use tch::{Device, Kind, Tensor};

use crate::error::CheckError;
use crate::{Error, Result};

/// Numbers in [-1, 1), the same every time. libtorch's own generators are left alone, because
/// training draws from them.
///
/// # Errors
/// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for an invalid shape;
/// [`Error::Torch`].
pub(crate) fn uniform(shape: &[i64], device: Device, kind: Kind) -> Result<Tensor> {
    let count = shape.iter().try_fold(1_usize, |count, &side| {
        usize::try_from(side).ok().filter(|&side| side > 0)?.checked_mul(count)
    });
    let count = count.filter(|_| !shape.is_empty()).ok_or_else(|| {
        let reason = format!("an input cannot have the shape {shape:?}; give the batch first and at least 1 of each, as [1, 3, 224, 224]");
        Error::Check(CheckError::Benchmark { reason })
    })?;
    let mut numbers: Vec<f32> = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| {
        Error::Check(CheckError::Benchmark {
            reason: format!("there is no memory for an input of shape {shape:?}"),
        })
    })?;
    let mut generator = fastrand::Rng::with_seed(0);
    numbers.extend(std::iter::repeat_with(|| 2. * generator.f32() - 1.).take(count));
    let tensor = Tensor::f_from_slice(&numbers).and_then(|tensor| tensor.f_reshape(shape));
    tensor
        .and_then(|tensor| tensor.f_to_device(device)?.f_to_kind(kind))
        .map_err(Error::torch("the input"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_the_same_every_time() {
        let input = uniform(&[2, 3, 4], Device::Cpu, Kind::Double).unwrap();
        assert_eq!(input, uniform(&[2, 3, 4], Device::Cpu, Kind::Double).unwrap());
        assert_eq!((input.size(), input.kind()), (vec![2, 3, 4], Kind::Double));
        assert!(input.abs().max().double_value(&[]) <= 1.);
        assert!(input.std(false).double_value(&[]) > 0.3, "it is no constant");
    }

    #[test]
    fn a_shape_that_is_none_is_refused() {
        for shape in
            [&[][..], &[1, 0, 2], &[-1, 3], &[i64::MAX, i64::MAX], &[1, 3, 1 << 40, 1 << 20]]
        {
            let error = uniform(shape, Device::Cpu, Kind::Float).unwrap_err().to_string();
            assert!(error.contains(&format!("{shape:?}")), "{error}");
        }
    }
}
