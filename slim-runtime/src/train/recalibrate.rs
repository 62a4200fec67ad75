//! Re-estimates the running statistics of batch norms from data.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::{Device, Kind, TchError, Tensor};

use crate::analysis::{self, Graph, Masking};
use crate::error::CheckError;
use crate::graph::{LayerKind, LayerMut, NormMut, visit_layers};
use crate::{Error, Prunable, Result, fault};

/// Re-estimates the running mean and variance of every batch norm, as plain averages over batches.
/// This corrects batch-norm statistics after slimming without training.
///
/// `forward` runs the model on a batch **in training mode**; it is called once for each batch. The
/// result is that of PyTorch's `torch.optim.swa_utils.update_bn` (a momentum of `None`), whatever
/// the momentum of the layers: the mean over the batches of each batch's mean and unbiased
/// variance. If a batch norm is applied several times in a pass, its momentum weights the uses. A
/// batch norm of [`nn`](crate::nn) whose momentum would not move the statistics, such as 0, uses
/// 0.1 during the call. Dropout is active, as in any training pass. No gradients are computed.
///
/// ```
/// use slim_runtime::{Prunable, recalibrate};
/// use tch::{Device, Tensor, nn};
///
/// #[derive(Debug, Prunable)]
/// #[prune(sequential)]
/// struct Net { conv1: nn::Conv2D, bn: nn::BatchNorm, conv2: nn::Conv2D }
///
/// impl nn::ModuleT for Net {
///     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
///         xs.apply(&self.conv1).apply_t(&self.bn, train).relu().apply(&self.conv2)
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let p = &vs.root();
/// let mut net = Net {
///     conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()),
///     bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
///     conv2: nn::conv2d(p / "conv2", 8, 4, 3, Default::default()),
/// };
/// net.slim(0.5)?;
/// let batches = (0..4).map(|_| Tensor::randn([16, 3, 8, 8], tch::kind::FLOAT_CPU));
/// recalibrate(&mut net, batches, |net, images| Ok(images.apply_t(net, true)))?;
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// [`CheckError::Recalibration`](crate::error::CheckError::Recalibration) when there is no batch,
/// or when a batch norm's statistics have not moved (`forward` does not reach it, or not in
/// training mode), are not finite, or move by an unknown momentum; any error of `forward`. After an
/// error, and when `forward` panics, all statistics are unchanged, to the bit.
pub fn recalibrate<M: Prunable, B, T>(
    model: &mut M,
    batches: impl IntoIterator<Item = B>,
    forward: impl FnMut(&M, B) -> Result<T>,
) -> Result<()> {
    let mut momentums = Momentums::default();
    let done = catch_unwind(AssertUnwindSafe(|| {
        momentums.set(model)?;
        estimate(model, batches, forward).map(Norms::keep)
    }));
    let put_back = momentums.put_back(model);
    done.unwrap_or_else(|panic| resume_unwind(panic)).and(put_back)
}

/// Runs `look` on the model with the statistics that [`recalibrate`] would give it, and restores
/// the statistics, to the bit, also after an error or a panic. Returns what `look` returns.
///
/// It is for the measure of a [`Search`](crate::Search), a [`Sweep`](crate::Sweep) or a
/// [`Sensitivity`](crate::Sensitivity). With the statistics of the dense network, a network that
/// has lost much is no better than guessing, and slimmed networks cannot be told apart by their
/// accuracy before fine-tuning; with statistics of their own, they can (Li et al., "EagleEye", ECCV
/// 2020, <https://arxiv.org/abs/2007.02491>).
///
/// ```
/// # use slim_runtime::{Prunable, Result, Search, Slimming, recalibrated};
/// # use tch::{Device, Kind, Tensor, nn::{self, ModuleT}};
/// # #[derive(Debug, Prunable)]
/// # #[prune(sequential)]
/// # struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
/// # impl ModuleT for Net {
/// #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
/// #         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu().apply(&self.conv2).apply_t(&self.bn2, train).relu();
/// #         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
/// #     }
/// # }
/// # let vs = nn::VarStore::new(Device::Cpu);
/// # let p = &vs.root();
/// # let mut net = Net {
/// #     conv1: nn::conv2d(p / "conv1", 3, 16, 3, Default::default()),
/// #     bn1: nn::batch_norm2d(p / "bn1", 16, Default::default()),
/// #     conv2: nn::conv2d(p / "conv2", 16, 16, 3, Default::default()),
/// #     bn2: nn::batch_norm2d(p / "bn2", 16, Default::default()),
/// #     fc: nn::linear(p / "fc", 16, 4, Default::default()),
/// # };
/// # let batches = vec![Tensor::randn([32, 3, 8, 8], (Kind::Float, Device::Cpu))];
/// # let (images, labels) = (batches[0].shallow_clone(), Tensor::randint(4, [32], (Kind::Int64, Device::Cpu)));
/// # let accuracy = |net: &Net| 100. * net.forward_t(&images, false).accuracy_for_logits(&labels).double_value(&[]);
/// let forward = |net: &Net, images: &Tensor| Ok(net.forward_t(images, true));
/// let mut search = Search::new(&net, &Slimming::params(0.5))?.population(4);
/// search.run(&mut net, 1, |net| -> Result<f64> { recalibrated(net, &batches, forward, accuracy) })?;
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// Those of [`recalibrate`]. A batch norm whose momentum would not move the statistics is an error
/// here, since the model itself does not change.
pub fn recalibrated<M: Prunable + ?Sized, B, T, R>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    forward: impl FnMut(&M, B) -> Result<T>,
    look: impl FnOnce(&M) -> R,
) -> Result<R> {
    let _restored_when_dropped = estimate(model, batches, forward)?;
    Ok(look(model))
}

/// The original momentum, by path, of batch norms whose momentum is replaced during the call.
#[derive(Default)]
struct Momentums(HashMap<String, f64>);

/// tch's default momentum.
const MOMENTUM: f64 = 0.1;

fn moves(momentum: f64) -> bool {
    momentum > 0.0 && momentum <= 1.0
}

impl Momentums {
    fn set<M: Prunable>(&mut self, model: &mut M) -> Result<()> {
        visit_layers(model, &mut |path, layer| {
            if let LayerMut::Norm(NormMut { momentum: Some(momentum), .. }) = layer
                && !moves(*momentum)
            {
                self.0.insert(path.to_owned(), std::mem::replace(momentum, MOMENTUM));
            }
            Ok(())
        })
    }

    fn put_back<M: Prunable>(mut self, model: &mut M) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        visit_layers(model, &mut |path, layer| {
            if let LayerMut::Norm(NormMut { momentum: Some(momentum), .. }) = layer
                && let Some(old) = self.0.remove(path)
            {
                *momentum = old;
            }
            Ok(())
        })
    }
}

/// The batch norms with their new statistics, which they lose when this is dropped.
fn estimate<M: Prunable + ?Sized, B, T>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, B) -> Result<T>,
) -> Result<Norms> {
    let graph = analysis::trace(model, Masking::BatchNorm)?;
    let _no_grad = tch::no_grad_guard();
    let mut norms = Norms::of(&graph)?;
    let mut empty = true;
    for batch in batches {
        norms.each(Norm::reset)?;
        forward(model, batch)?;
        // `forward` may have enabled gradients.
        let _no_grad = tch::no_grad_guard();
        norms.each(Norm::add)?;
        empty = false;
    }
    if empty {
        let reason = "there is no batch to estimate its statistics from".to_owned();
        return Err(Error::Check(CheckError::Recalibration { path: "model".to_owned(), reason }));
    }
    norms.finish()?;
    Ok(norms)
}

/// Every batch norm of a model, once. All statistics are restored when it is dropped, unless they
/// are to be [kept](Self::keep).
struct Norms {
    norms: Vec<Norm>,
    kept: bool,
}

struct Norm {
    path: String,
    /// The layer's running mean and variance.
    live: [Tensor; 2],
    old: [Tensor; 2],
    sums: [Tensor; 2],
    /// Number of batches that moved the statistics; stochastic depth may skip the layer.
    batches: u32,
    /// Weight of the start value in the statistics after a pass: (1 − momentum)^uses.
    left: f64,
    /// Running variance before a pass. It is negative, which no variance is, so that an unmoved one
    /// is recognised, and almost zero, so that adding it rounds nothing away.
    start: f64,
}

impl Norms {
    fn of(graph: &Graph) -> Result<Self> {
        let mut uses: HashMap<(usize, usize), i32> = HashMap::new();
        let norms = || {
            graph.layers.iter().enumerate().filter(|(_, layer)| layer.kind == LayerKind::BatchNorm)
        };
        let statistics = |index: usize, name: &str| {
            graph.layers[index].tensors.iter().position(|tensor| tensor.name == name)
        };
        for (index, layer) in norms() {
            let Some(mean) = statistics(index, "running_mean") else { continue };
            *uses.entry(layer.tensors[mean].tied.unwrap_or((index, mean))).or_default() += 1;
        }
        let mut found = Norms { norms: Vec::new(), kept: false };
        for (index, layer) in norms() {
            let (Some(mean), Some(var)) =
                (statistics(index, "running_mean"), statistics(index, "running_var"))
            else {
                continue;
            };
            let Some(&uses) = uses.get(&(index, mean)) else { continue };
            let momentum = layer
                .momentum
                .filter(|momentum| moves(*momentum))
                .ok_or_else(|| {
                    let momentum = layer.momentum.map_or_else(
                        || "that cannot be read".to_owned(),
                        |momentum| format!("of {momentum}"),
                    );
                    let reason = format!(
                        "it has a momentum {momentum}; build it with one in (0, 1], such as 0.1 (`recalibrate` uses 0.1 for batch norms of `slim_runtime::nn`)"
                    );
                    Error::Check(CheckError::Recalibration { path: layer.path.clone(), reason })
                })?;
            let live = [&layer.tensors[mean].tensor, &layer.tensors[var].tensor];
            found.norms.push(
                Norm::new(layer.path.clone(), live, (1.0 - momentum).powi(uses))
                    .map_err(Error::torch(&layer.path))?,
            );
        }
        match found.norms.is_empty() {
            true => Err(Error::Check(CheckError::Recalibration {
                path: "model".to_owned(),
                reason: "its data flow has no batch norm".to_owned(),
            })),
            false => Ok(found),
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Norm) -> Result<(), TchError>) -> Result<()> {
        self.norms.iter_mut().try_for_each(|norm| {
            fault::point().and_then(|()| act(norm)).map_err(Error::torch(&norm.path))
        })
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Checks all averages before it writes the first.
    fn finish(&mut self) -> Result<()> {
        self.each(Norm::average)?;
        for norm in &self.norms {
            let refuse = |reason: &str| {
                Err(Error::Check(CheckError::Recalibration {
                    path: norm.path.clone(),
                    reason: reason.to_owned(),
                }))
            };
            let finite = || {
                norm.sums.iter().try_fold(true, |finite, sum| {
                    Ok(finite && bool::try_from(sum.f_isfinite()?.f_all()?)?)
                })
            };
            match norm.batches {
                0 => {
                    return refuse(
                        "its statistics have not moved; run the model in training mode, `forward_t(&images, true)`",
                    );
                }
                _ if !finite().map_err(Error::torch(&norm.path))? => {
                    return refuse(
                        "its statistics are not finite on these batches; look for NaN or infinity in the data and the weights",
                    );
                }
                _ => {}
            }
        }
        self.each(|norm| {
            norm.sums
                .iter()
                .zip(&mut norm.live)
                .try_for_each(|(sum, live)| live.f_copy_(sum).map(|_| ()))
        })
    }
}

impl Drop for Norms {
    fn drop(&mut self) {
        if !self.kept {
            let _no_grad = tch::no_grad_guard();
            for norm in &mut self.norms {
                for (live, old) in norm.live.iter_mut().zip(&norm.old) {
                    // The copy in the other direction succeeded before, and a failure could not be
                    // handled here.
                    let _ = live.f_copy_(old);
                }
            }
        }
    }
}

impl Norm {
    fn new(path: String, [mean, var]: [&Tensor; 2], left: f64) -> Result<Self, TchError> {
        let zeros = |tensor: &Tensor| Tensor::f_zeros(tensor.size(), (Kind::Double, Device::Cpu));
        let old = |tensor: &Tensor| {
            Tensor::f_empty_like(tensor).and_then(|mut old| old.f_copy_(tensor).map(|()| old))
        };
        // For half precision, sixteen times its smallest positive value.
        let start = if var.kind() == Kind::Half { -(0.5_f64.powi(20)) } else { -1e-30 };
        Ok(Norm {
            path,
            live: [mean.shallow_clone(), var.shallow_clone()],
            old: [old(mean)?, old(var)?],
            sums: [zeros(mean)?, zeros(var)?],
            batches: 0,
            left,
            start,
        })
    }

    fn reset(&mut self) -> Result<(), TchError> {
        let [mean, var] = &mut self.live;
        let _ = mean.f_fill_(0.0)?;
        let _ = var.f_fill_(self.start)?;
        Ok(())
    }

    /// Adds a batch's statistics to the sums. A pass leaves `left · start + (1 − left) · batch`.
    fn add(&mut self) -> Result<(), TchError> {
        let (left, start) = (self.left, self.start);
        let unmoved = Tensor::f_full_like(&self.live[1], start)?;
        if self.live[1].f_equal(&unmoved)? {
            return Ok(());
        }
        self.batches += 1;
        for ((sum, live), start) in self.sums.iter_mut().zip(&self.live).zip([0.0, start]) {
            let batch = live
                .f_to_device(Device::Cpu)?
                .f_to_kind(Kind::Double)?
                .f_sub_scalar(left * start)?
                .f_div_scalar(1.0 - left)?;
            let _ = sum.f_add_(&batch)?;
        }
        Ok(())
    }

    fn average(&mut self) -> Result<(), TchError> {
        for sum in &mut self.sums {
            let _ = sum.f_div_scalar_(f64::from(self.batches.max(1)))?;
        }
        // Rounding may have made a variance of zero negative.
        let _ = self.sums[1].f_clamp_min_(0.0)?;
        Ok(())
    }
}
