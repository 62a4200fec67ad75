//! Gradients that are averaged while `backward` still computes others.

use tch::Tensor;
use tch::nn::VarStore;

use crate::distributed::{Distributed, sorted};
use crate::ffi::Reducer;
use crate::{Error, Result};

/// How gradients are averaged.
#[derive(Debug, Clone, Copy)]
pub struct DataParallelConfig {
    bucket_bytes: i64,
    find_unused: bool,
    synchronised: bool,
}

impl Default for DataParallelConfig {
    fn default() -> Self {
        Self { bucket_bytes: 25 << 20, find_unused: false, synchronised: false }
    }
}

impl DataParallelConfig {
    /// As PyTorch's `DistributedDataParallel`: buckets of 25 MiB, all parameters are used, batch
    /// norms see the part of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of gradients that are sent together. 25 MiB by default.
    #[must_use]
    pub fn bucket_bytes(mut self, bytes: i64) -> Self {
        self.bucket_bytes = bytes;
        self
    }

    /// Whether some parameters may have no part in a loss. Their gradients are averaged as zeros,
    /// if another process has used them. It costs a search of the graph in each step; without it, a
    /// parameter that is not used is an error in the next step.
    #[must_use]
    pub fn find_unused(mut self, find: bool) -> Self {
        self.find_unused = find;
        self
    }

    /// Whether batch norms take their statistics from the batches of all processes: see
    /// [`Distributed::synchronised`].
    #[must_use]
    pub fn synchronised(mut self, synchronised: bool) -> Self {
        self.synchronised = synchronised;
        self
    }
}

/// Averages the gradients of a store's variables over all processes, during `backward`: the reducer
/// of PyTorch's `DistributedDataParallel` ([Li et al., 2020](https://arxiv.org/abs/2006.15704)).
///
/// Gradients are collected in buckets, in the order in which `backward` computes them, and a bucket
/// is reduced as soon as it is full. After [`backward`](Self::backward), all processes have the
/// same gradients. So an `optimizer.clip_grad_norm` behind it clips by the norm over all processes.
///
/// It is for the parameters that it was made with: make another after slimming.
#[derive(Debug)]
pub struct DataParallel<'d> {
    dist: &'d Distributed,
    config: DataParallelConfig,
    /// The variables by name, with their shapes when this was made, and whether they were trained.
    /// Those that were are in front, in the order of the reducer.
    variables: Vec<(String, Tensor, Vec<i64>, bool)>,
    /// `None` for a process that is alone.
    reducer: Option<Reducer>,
    accumulates: bool,
}

/// How well communication hides behind computation, on average over the measured steps.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Times {
    /// Milliseconds in which `backward` computed.
    pub compute: f64,
    /// Milliseconds from the first bucket that was sent to the last that arrived.
    pub communication: f64,
    /// Milliseconds of both at once.
    pub overlap: f64,
    /// The number of buckets.
    pub buckets: usize,
}

impl Distributed {
    /// Averages the gradients of a store's variables from now on. Collective.
    ///
    /// # Errors
    /// Those of [`data_parallel_with`](Self::data_parallel_with).
    pub fn data_parallel(&self, vs: &VarStore) -> Result<DataParallel<'_>> {
        self.data_parallel_with(vs, DataParallelConfig::default())
    }

    /// Like [`data_parallel`](Self::data_parallel), with options. Collective.
    ///
    /// # Errors
    /// [`Error::Argument`] for buckets of no bytes, and for a store without parameters to train;
    /// [`Error::Unlike`] when processes have different parameters, and [`Error::Rank`] in the
    /// others; [`Error::Collective`].
    pub fn data_parallel_with(
        &self,
        vs: &VarStore,
        config: DataParallelConfig,
    ) -> Result<DataParallel<'_>> {
        if config.bucket_bytes < 1 {
            let rule = "a bucket has at least one byte; PyTorch's have 25 MiB";
            let found = config.bucket_bytes.to_string();
            return Err(Error::Argument { name: "bucket_bytes", found, rule });
        }
        let (trained, others): (Vec<_>, Vec<_>) =
            sorted(vs).into_iter().partition(|(_, tensor)| tensor.requires_grad());
        self.ensure_alike(&trained)?;
        if trained.is_empty() {
            let rule = "there is no gradient to average; unfreeze some of its variables";
            let found = "a store without parameters to train".to_owned();
            return Err(Error::Argument { name: "vs", found, rule });
        }
        let reducer = match self.group() {
            None => None,
            Some(group) => {
                let all: Vec<_> =
                    trained.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
                let made = Reducer::new(group, &all, config.bucket_bytes, config.find_unused);
                Some(made.map_err(|cause| self.failed("average gradients", cause))?)
            }
        };
        let as_it_is = |(name, tensor): (String, Tensor)| {
            let (size, is_trained) = (tensor.size(), tensor.requires_grad());
            (name, tensor, size, is_trained)
        };
        let variables = trained.into_iter().chain(others).map(as_it_is).collect();
        Ok(DataParallel { dist: self, config, variables, reducer, accumulates: false })
    }
}

impl DataParallel<'_> {
    /// Runs `forward`, which returns the loss of this process's part of the batch. Collective, if
    /// batch norms are synchronised.
    ///
    /// The gradients of the processes are averaged, so the loss has to be the mean over the part,
    /// and, where parts differ in size, times [`Shard::weight`](crate::Shard::weight). Where a part
    /// may have the weight 0, [`forward_part`](Self::forward_part) keeps it out of synchronised
    /// batch norms.
    ///
    /// # Errors
    /// [`Error::Stale`] when parameters were replaced since this was made; [`Error::Changed`] when
    /// variables were frozen or unfrozen; [`Error::Collective`], [`Error::Network`].
    pub fn forward(&mut self, forward: impl FnOnce() -> Tensor) -> Result<Tensor> {
        self.forward_part(1., forward)
    }

    /// Like [`forward`](Self::forward), for a part of this [weight](crate::Shard::weight). With the
    /// weight 0, its samples do not count in the statistics of synchronised batch norms. The loss
    /// is not multiplied here. Collective, if batch norms are synchronised.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_part(
        &mut self,
        weight: f64,
        forward: impl FnOnce() -> Tensor,
    ) -> Result<Tensor> {
        self.check_fresh()?;
        if let Some(reducer) = self.reducer.as_ref().filter(|_| !self.accumulates) {
            reducer.before_forward().map_err(|cause| self.failed(cause))?;
        }
        if self.config.synchronised {
            self.dist.synchronised_if(weight > 0., forward)
        } else {
            Ok(forward())
        }
    }

    /// Computes the gradients of `loss`, averages them over all processes, and adds them to those
    /// that are there. Collective, but for [`accumulate`](Self::accumulate).
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::Changed`]; [`Error::Collective`] when a process dies;
    /// [`Error::Torch`] for a loss that is no scalar or needs no gradient.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        self.check_fresh()?;
        if let Some(reducer) = self.reducer.as_ref().filter(|_| !self.accumulates) {
            let searched = self.config.find_unused.then_some(loss);
            reducer.before_backward(searched).map_err(|cause| self.failed(cause))?;
        }
        // The reducer waits inside of `backward`, where a process that died is libtorch's error.
        loss.f_backward().map_err(|cause| match &self.reducer {
            Some(_) if loss.requires_grad() && loss.numel() == 1 => self.failed(cause.to_string()),
            _ => Error::Torch(cause),
        })
    }

    /// Runs steps whose gradients are added up without being averaged: PyTorch's `no_sync`. The
    /// next [`backward`](Self::backward) behind it averages the sum.
    ///
    /// # Errors
    /// Those of `steps`.
    pub fn accumulate<T>(&mut self, steps: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        /// Ends it after a panic, too.
        struct Restore<'p, 'd>(&'p mut DataParallel<'d>, bool);
        impl Drop for Restore<'_, '_> {
            fn drop(&mut self) {
                self.0.accumulates = self.1;
            }
        }
        let outer = std::mem::replace(&mut self.accumulates, true);
        steps(Restore(self, outer).0)
    }

    /// How long the steps took so far; `None` for a process that is alone, and before the second
    /// step.
    ///
    /// # Errors
    /// [`Error::Collective`] with libtorch's words.
    pub fn times(&self) -> Result<Option<Times>> {
        let Some(reducer) = &self.reducer else { return Ok(None) };
        let [compute, communication, overlap, buckets] =
            reducer.times().map_err(|cause| self.failed(cause))?;
        let milliseconds = |nanoseconds: i64| nanoseconds as f64 / 1e6;
        Ok((compute > 0).then(|| Times {
            compute: milliseconds(compute),
            communication: milliseconds(communication),
            overlap: milliseconds(overlap),
            buckets: usize::try_from(buckets).unwrap_or_default(),
        }))
    }

    fn check_fresh(&self) -> Result<()> {
        for (variable, tensor, before, was_trained) in &self.variables {
            let now = tensor.size();
            if now != *before {
                let (variable, before) = (variable.clone(), before.clone());
                return Err(Error::Stale { variable, before, now });
            }
            if tensor.requires_grad() != *was_trained {
                return Err(Error::Changed {
                    variable: variable.clone(),
                    change: "frozen or unfrozen",
                });
            }
        }
        let Some(reducer) = &self.reducer else { return Ok(()) };
        let lost = reducer.lost().map_err(|cause| self.failed(cause))?;
        if let Some((variable, _, _, true)) = self.variables.get(lost) {
            let change = "given other memory (by slimming that was undone, or another kind)";
            return Err(Error::Changed { variable: variable.clone(), change });
        }
        Ok(())
    }

    fn failed(&self, cause: String) -> Error {
        self.dist.failed("average gradients", cause)
    }
}
