//! Batch norms over a batch of which this process has a part.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Kind, TchError, Tensor};

use crate::{Error, Result};

/// Sums a tensor over the processes.
type Sum = Rc<dyn Fn(&Tensor) -> Result<Tensor>>;

thread_local! {
    /// What batch norms of this thread sum their statistics by.
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

struct Scope {
    sum: Sum,
    /// The first error of a sum.
    failed: Option<Error>,
}

/// Runs `forward` with batch norms that, in training mode, take their statistics from a batch of
/// which this process has a part: synchronised batch normalisation, PyTorch's `SyncBatchNorm`.
///
/// `sum` returns the sum of a tensor over all processes, and sums gradients over them in
/// `backward`. Each batch norm calls it twice: with the sums of its channels and the number of
/// values, then with the sums of squared differences from the mean. So the outputs, the gradients
/// and the running statistics are those of one process that has the whole batch. The parts may have
/// different sizes.
///
/// This holds for [`BatchNorm`](super::BatchNorm) on this thread, not for tch's own.
///
/// ```
/// use slim_runtime::nn;
/// use tch::nn::ModuleT;
/// use tch::{Device, Kind, Tensor};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let bn = nn::batch_norm2d(vs.root(), 3, Default::default());
/// let images = Tensor::randn([2, 3, 4, 4], (Kind::Float, Device::Cpu));
/// // Two processes with the same images have the statistics of one.
/// let ys = nn::synchronised(|sums| Ok(sums * 2.), || bn.forward_t(&images, true))?;
/// assert!(ys.allclose(&bn.forward_t(&images, true), 1e-5, 1e-5, false));
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// The first error of `sum`. The batch norms behind it have used the statistics of this process,
/// and their running statistics are to be discarded.
pub fn synchronised<T>(
    sum: impl Fn(&Tensor) -> Result<Tensor> + 'static,
    forward: impl FnOnce() -> T,
) -> Result<T> {
    struct Restore(Option<Scope>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPE.set(self.0.take());
        }
    }
    let outer = SCOPE.replace(Some(Scope { sum: Rc::new(sum), failed: None }));
    let _restore = Restore(outer);
    let result = forward();
    match SCOPE.take().and_then(|scope| scope.failed) {
        Some(error) => Err(error),
        None => Ok(result),
    }
}

/// A batch norm, as its layer has it.
pub(super) struct Norm<'n> {
    pub(super) scale: Option<&'n Tensor>,
    pub(super) shift: Option<&'n Tensor>,
    pub(super) running_mean: &'n Tensor,
    pub(super) running_var: &'n Tensor,
    pub(super) momentum: f64,
    pub(super) eps: f64,
}

impl Norm<'_> {
    /// Normalises `[N, C, …]` by the statistics of all processes, and updates the running ones.
    /// `None` outside of [`synchronised`], and after an error in it.
    pub(super) fn over_processes(&self, xs: &Tensor) -> Option<Tensor> {
        let sum = SCOPE.with_borrow(|scope| {
            let scope = scope.as_ref().filter(|scope| scope.failed.is_none());
            scope.map(|scope| Rc::clone(&scope.sum))
        })?;
        match self.normalised(xs, &*sum) {
            Ok(ys) => Some(ys),
            Err(error) => {
                SCOPE.with_borrow_mut(|scope| {
                    if let Some(scope) = scope {
                        scope.failed = Some(error);
                    }
                });
                None
            }
        }
    }

    fn normalised(&self, xs: &Tensor, sum: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let torch = |cause: TchError| Error::torch("a batch norm over processes")(cause);
        let kind = xs.f_kind().map_err(torch)?;
        // As libtorch's kernels, which compute statistics of half precision in single precision.
        let wide = if matches!(kind, Kind::Half | Kind::BFloat16) { Kind::Float } else { kind };
        let values = xs.f_to_kind(wide).map_err(torch)?;
        let channels = values.size()[1];
        let all_but_channels: Vec<i64> = (0..values.dim() as i64).filter(|&dim| dim != 1).collect();
        let sums = |values: &Tensor| values.f_sum_dim_intlist(&all_but_channels[..], false, wide);
        let own = values.numel() as i64 / channels.max(1);

        let moments = || {
            let own = Tensor::f_full([1], own, (wide, values.device()))?;
            Tensor::f_cat(&[sums(&values)?, own], 0)
        };
        let totals = sum(&moments().map_err(torch)?)?;
        let number = totals.f_double_value(&[channels]).map_err(torch)?;
        if number < 2. {
            return Err(Error::Custom(
                "a batch norm needs more than one value of each channel in training; take a larger batch".to_owned(),
            ));
        }
        let sides: Vec<i64> =
            (0..values.dim()).map(|dim| if dim == 1 { channels } else { 1 }).collect();
        let mean = || totals.f_narrow(0, 0, channels)?.f_div_scalar(number);
        let mean = mean().map_err(torch)?;
        let centred = || values.f_sub(&mean.f_view(&sides[..])?);
        let centred = centred().map_err(torch)?;
        let squares = || sums(&centred.f_square()?);
        let squares = sum(&squares().map_err(torch)?)?;

        let finish = || {
            let variance = squares.f_div_scalar(number)?;
            tch::no_grad(|| {
                let unbiased = variance.f_mul_scalar(number / (number - 1.))?;
                for (running, new) in [(self.running_mean, &mean), (self.running_var, &unbiased)] {
                    let mut running = running.shallow_clone();
                    let new = new.f_to_kind(running.f_kind()?)?;
                    let _ = running.f_lerp_(&new, self.momentum)?;
                }
                Ok::<_, TchError>(())
            })?;
            let deviation = variance.f_add_scalar(self.eps)?.f_rsqrt()?;
            let scale = match self.scale {
                Some(scale) => deviation.f_mul(&scale.f_to_kind(wide)?)?,
                None => deviation,
            };
            let ys = centred.f_mul(&scale.f_view(&sides[..])?)?;
            let ys = match self.shift {
                Some(shift) => ys.f_add(&shift.f_to_kind(wide)?.f_view(&sides[..])?)?,
                None => ys,
            };
            ys.f_to_kind(kind)
        };
        finish().map_err(torch)
    }
}
