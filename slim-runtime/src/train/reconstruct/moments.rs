//! Normal equations: sums over samples and positions, and their solution.

use tch::{Kind, TchError, Tensor};

use crate::nn::tch::conv::Sliding;

/// The largest number of values of a matrix of windows. Larger inputs are split by samples.
const MOST: i64 = 1 << 22;

/// Sums over all rows: of a linear layer, the vectors that it reads; of a convolution, the windows
/// that its kernel covers. In double precision.
#[derive(Default)]
pub(super) struct Moments {
    sums: Option<Sums>,
}

struct Sums {
    /// Number of rows.
    count: f64,
    /// `Σ x xᵀ`, `[columns, columns]`.
    gram: Tensor,
    /// `Σ x rᵀ`, `[columns, outputs]`, where `r` is the residual of the output.
    cross: Tensor,
    /// `Σ x`, `[columns]`.
    inputs: Tensor,
    /// `Σ r`, `[outputs]`.
    residuals: Tensor,
    /// `Σ ‖r‖²`.
    residual: f64,
    /// `Σ ‖y‖²`.
    outputs: f64,
}

/// The change of a layer that fits best.
pub(super) struct Solution {
    /// `[columns, outputs]`, to add to the weight.
    pub(super) change: Tensor,
    /// `[outputs]`, to add to the output; `None` where no tensor can hold it.
    pub(super) constant: Option<Tensor>,
    /// `Σ ‖r‖²` after the change.
    pub(super) residual: f64,
}

impl Moments {
    /// Adds a call: what the layer reads, `[N, C, …]` or `[…, C]`, what it should write, and what
    /// it writes.
    pub(super) fn add(
        &mut self,
        input: &Tensor,
        [target, output]: [&Tensor; 2],
        sliding: Option<&Sliding>,
        kernel: &[i64],
    ) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        let Some(sliding) = sliding else {
            let rows =
                |tensor: &Tensor| tensor.f_reshape([-1, *tensor.size().last().unwrap_or(&1)]);
            return self.add_rows(&rows(input)?, [&rows(target)?, &rows(output)?]);
        };
        // An image without a batch dimension has one dimension less.
        let batched = |tensor: &Tensor| match tensor.dim() == kernel.len() + 2 {
            true => Ok(tensor.shallow_clone()),
            false => tensor.f_unsqueeze(0),
        };
        let (input, target, output) = (batched(input)?, batched(target)?, batched(output)?);
        let [samples, channels, positions @ ..] = &output.size()[..] else { return Ok(()) };
        let columns = input.size()[1] * kernel.iter().product::<i64>();
        let of_sample = positions.iter().product::<i64>() * columns;
        let step = (MOST / of_sample.max(1)).max(1);
        let rows = |tensor: &Tensor| tensor.f_movedim_int(1, -1)?.f_reshape([-1, *channels]);
        for first in (0..*samples).step_by(step as usize) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, first, step.min(samples - first));
            let windows = windows(&part(&input)?, sliding, kernel)?;
            self.add_rows(&windows, [&rows(&part(&target)?)?, &rows(&part(&output)?)?])?;
        }
        Ok(())
    }

    /// Adds rows `[rows, columns]`, and what should be written and is written, `[rows, outputs]`.
    fn add_rows(&mut self, xs: &Tensor, [target, output]: [&Tensor; 2]) -> Result<(), TchError> {
        // Means are subtracted later, which leaves too few digits of sums in single precision.
        let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
        let (xs, target) = (wide(xs)?, wide(target)?);
        let residuals = target.f_sub(&wide(output)?)?;
        let over_rows =
            |tensor: &Tensor| tensor.f_sum_dim_intlist([0].as_slice(), false, Kind::Double);
        let squares = |tensor: &Tensor| tensor.f_square()?.f_sum(Kind::Double)?.f_double_value(&[]);
        let transposed = xs.f_transpose(0, 1)?;
        let new = Sums {
            count: xs.size()[0] as f64,
            gram: transposed.f_matmul(&xs)?,
            cross: transposed.f_matmul(&residuals)?,
            inputs: over_rows(&xs)?,
            residuals: over_rows(&residuals)?,
            residual: squares(&residuals)?,
            outputs: squares(&target)?,
        };
        let Some(sums) = &mut self.sums else {
            self.sums = Some(new);
            return Ok(());
        };
        sums.count += new.count;
        sums.residual += new.residual;
        sums.outputs += new.outputs;
        for (sum, new) in [
            (&mut sums.gram, new.gram),
            (&mut sums.cross, new.cross),
            (&mut sums.inputs, new.inputs),
            (&mut sums.residuals, new.residuals),
        ] {
            let _ = sum.f_add_(&new)?;
        }
        Ok(())
    }

    /// `Σ ‖r‖²` before any change.
    pub(super) fn residual(&self) -> f64 {
        self.sums.as_ref().map_or(0., |sums| sums.residual)
    }

    /// `Σ ‖y‖²`; at least the smallest number that can be divided by.
    pub(super) fn outputs(&self) -> f64 {
        self.sums.as_ref().map_or(0., |sums| sums.outputs).max(f64::MIN_POSITIVE)
    }

    /// Solves for the change of the weight, and for a constant if there is a place for it. `None`
    /// if a value is not finite, and if there are no rows. Of a solution that does not fit better,
    /// the change is zero.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(super) fn solve(
        &self,
        ridge: f64,
        with_constant: bool,
    ) -> Result<Option<Solution>, TchError> {
        let _no_grad = tch::no_grad_guard();
        let Some(sums) = &self.sums else { return Ok(None) };
        let finite = |tensor: &Tensor| bool::try_from(tensor.f_isfinite()?.f_all()?);
        if !(sums.residual.is_finite() && finite(&sums.gram)? && finite(&sums.cross)?) {
            return Ok(None);
        }
        let Sums { count, gram, cross, inputs, residuals, residual, .. } = sums;
        // With a constant, only what differs from the mean is left to the weight.
        let (gram, cross, residual) = if with_constant {
            let mean = inputs.f_div_scalar(*count)?;
            let lacked = residuals.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])? / count;
            (
                gram.f_sub(&mean.f_outer(inputs)?)?,
                cross.f_sub(&mean.f_outer(residuals)?)?,
                residual - lacked,
            )
        } else {
            (gram.shallow_clone(), cross.shallow_clone(), *residual)
        };
        let columns = gram.size()[0];
        let mean_square = gram.f_trace()?.f_double_value(&[])? / columns as f64;
        let eye = Tensor::f_eye(columns, (Kind::Double, gram.device()))?;
        let regular = gram.f_add(&eye.f_mul_scalar(ridge * mean_square)?)?;
        let change = positive_definite_solve(&regular, &cross)?;
        let product = |a: &Tensor, b: &Tensor| a.f_mul(b)?.f_sum(Kind::Double)?.f_double_value(&[]);
        let less = 2. * product(&change, &cross)? - product(&change, &gram.f_matmul(&change)?)?;
        // By rounding alone, in sums that nearly vanish.
        let (change, less) = if less < 0. { (change.f_zeros_like()?, 0.) } else { (change, less) };
        let constant = with_constant
            .then(|| {
                let moved = change.f_transpose(0, 1)?.f_mv(inputs)?;
                residuals.f_sub(&moved)?.f_div_scalar(*count)
            })
            .transpose()?;
        Ok(Some(Solution { change, constant, residual: residual - less }))
    }
}

/// Solves `a x = b` for a symmetric matrix without negative eigenvalues. Where `a` is singular, the
/// solution is the smallest.
fn positive_definite_solve(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let (factor, info) = a.f_linalg_cholesky_ex(false, false)?;
    if info.f_int64_value(&[])? == 0 {
        let solution = b.f_cholesky_solve(&factor, false)?;
        let pivots = factor.f_diagonal(0, 0, 1)?;
        let [least, most] = [pivots.f_min()?, pivots.f_max()?];
        // Squares of the pivots bound the condition from below.
        if least.f_double_value(&[])? > 1e-6 * most.f_double_value(&[])? {
            return Ok(solution);
        }
    }
    let (values, vectors) = a.f_linalg_eigh("L")?;
    let most = values.f_abs()?.f_max()?.f_double_value(&[])?;
    let least = most * a.size()[0] as f64 * f64::EPSILON;
    let inverse = values
        .f_reciprocal()?
        .f_where_self(&values.f_gt(least)?, &Tensor::f_zeros_like(&values)?)?;
    let within = vectors.f_transpose(0, 1)?.f_matmul(b)?;
    vectors.f_matmul(&within.f_mul(&inverse.f_unsqueeze(1)?)?)
}

/// The windows that a kernel covers, one row for each: `[N · positions, C · kernel]`.
fn windows(images: &Tensor, sliding: &Sliding, kernel: &[i64]) -> Result<Tensor, TchError> {
    let Sliding { stride, padding, dilation, padding_mode } = sliding;
    let pads: Vec<i64> = padding.iter().rev().flat_map(|&side| [side, side]).collect();
    let mut windows = match pads.iter().any(|&side| side > 0) {
        true => padding_mode.f_pad(images, &pads)?,
        false => images.shallow_clone(),
    };
    let sides = kernel.len() as i64;
    for (side, ((&size, &step), &apart)) in (0..).zip(kernel.iter().zip(stride).zip(dilation)) {
        windows = windows.f_unfold(2 + side, apart * (size - 1) + 1, step)?;
        windows = windows.f_slice(-1, None, None, apart)?;
    }
    // [N, C, positions …, kernel …] to [N, positions …, C, kernel …].
    let order: Vec<i64> =
        [0].into_iter().chain(2..2 + sides).chain([1]).chain(2 + sides..2 + 2 * sides).collect();
    let columns = images.size()[1] * kernel.iter().product::<i64>();
    windows.f_permute(&order[..])?.f_reshape([-1, columns])
}
