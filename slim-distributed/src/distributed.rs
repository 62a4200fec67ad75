//! The processes, and collective operations over all of them.

use std::rc::Rc;
use std::time::Duration;

use slim_runtime::nn;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::environment::Launch;
use crate::ffi::{Group, Store};
use crate::{Error, Result, rendezvous};

/// This process among the others that train the same network.
///
/// Every method that says *collective* must be called by all processes, in the same order. If one
/// of them has died, it is an error in the others at once; if one does not answer, after the
/// [timeout](DistributedConfig::timeout). No process can go on after such an error.
///
/// A process that was started alone has rank 0 of 1. Collective operations then do nothing.
#[derive(Debug)]
pub struct Distributed {
    group: Option<Rc<Group>>,
    rank: usize,
    local_rank: usize,
    world_size: usize,
    device: Device,
}

/// How processes find each other, and on what they compute.
#[derive(Debug, Clone, Copy)]
pub struct DistributedConfig {
    timeout: Duration,
    cpu: bool,
}

impl Default for DistributedConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(600), cpu: false }
    }
}

impl DistributedConfig {
    /// Ten minutes for each operation; GPUs where there are some.
    pub fn new() -> Self {
        Self::default()
    }

    /// After how long an operation fails because a process does not answer: longer than what one
    /// process does while the others wait, such as writing a file. 10 minutes by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Computes on the CPU, also where there are GPUs.
    #[must_use]
    pub fn cpu(mut self, cpu: bool) -> Self {
        self.cpu = cpu;
        self
    }

    /// Joins the other processes: see [`Distributed::from_env`]. Collective.
    ///
    /// # Errors
    /// Those of [`Distributed::from_env`].
    pub fn join(self) -> Result<Distributed> {
        let gpu = |local_rank| {
            let gpus =
                if cfg!(feature = "nccl") && !self.cpu { tch::Cuda::device_count() } else { 0 };
            usize::try_from(gpus).ok().filter(|&gpus| gpus > 0).map(|gpus| local_rank % gpus)
        };
        let Some(launch) = Launch::from_env()? else {
            let device = if self.cpu { Device::Cpu } else { Device::cuda_if_available() };
            return Ok(Distributed::alone(device));
        };
        let Launch { rank, local_rank, world_size, host, port, has_store, .. } = launch;
        if self.timeout.is_zero() {
            return Err(Error::Argument {
                name: "timeout",
                found: format!("{:?}", self.timeout),
                rule: "it is longer than what one process does while the others wait",
            });
        }
        let gpu = gpu(local_rank);
        let joined = || {
            let store = Store::new(&host, port, rank == 0 && !has_store, self.timeout)?;
            let prefix = rendezvous::prefix(&store, (rank, world_size), self.timeout)?;
            Group::new(&store, &prefix, (rank, world_size), self.timeout, gpu)
        };
        let group = joined().map_err(|cause| Error::Collective {
            rank,
            action: "join the other processes",
            cause,
        })?;
        let device = gpu.map_or(Device::Cpu, Device::Cuda);
        Ok(Distributed { group: Some(Rc::new(group)), rank, local_rank, world_size, device })
    }
}

/// How values of several processes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The sum, divided by the number of processes.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl Distributed {
    /// Joins the other processes that `torchrun` has started, by the variables `RANK`,
    /// `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT`. Without `WORLD_SIZE`, this
    /// process is alone. Collective.
    ///
    /// Processes talk by Gloo between CPUs. With the feature `nccl` and GPUs, each process has the
    /// GPU of its local rank, and they talk by NCCL. [`DistributedConfig`] has the options.
    ///
    /// # Errors
    /// [`Error::Environment`]; [`Error::Collective`] when the others do not come.
    pub fn from_env() -> Result<Self> {
        DistributedConfig::new().join()
    }

    /// A process that is alone, whatever the environment says, and computes on `device`.
    pub fn alone(device: Device) -> Self {
        Self { group: None, rank: 0, local_rank: 0, world_size: 1, device }
    }

    /// The number of this process, from 0 on.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of this process on its machine, from 0 on.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// The number of processes.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Whether this is rank 0, which alone writes files and prints.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// On what this process computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Waits until all processes have come here. Collective.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn barrier(&self) -> Result<()> {
        self.with("wait for the others", Group::barrier)
    }

    /// Gives all variables of a store the values of rank 0: weights, and statistics of batch norms.
    /// Collective.
    ///
    /// # Errors
    /// [`Error::Unlike`] when processes have different variables, and [`Error::Rank`] in the
    /// others; [`Error::Collective`], [`Error::Torch`].
    pub fn broadcast(&self, vs: &VarStore) -> Result<()> {
        let variables = sorted(vs);
        self.ensure_alike(&variables)?;
        let all: Vec<_> = variables.into_iter().map(|(_, tensor)| tensor).collect();
        self.broadcast_tensors(&all, 0)
    }

    /// Gives tensors the values that rank `root` has. Kinds and shapes are the same in all
    /// processes. Collective.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Collective`].
    pub fn broadcast_tensors(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        if root >= self.world_size {
            let rule = "it is the number of a process, from 0 on";
            return Err(Error::Argument { name: "root", found: root.to_string(), rule });
        }
        self.with("broadcast", |group| group.broadcast(tensors, root))
    }

    /// Reduces each tensor over all processes, in place. Collective.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn all_reduce(&self, tensors: &[Tensor], reduce: Reduce) -> Result<()> {
        let (op, scale) = match reduce {
            Reduce::Sum => (0, 1.),
            Reduce::Mean => (0, 1. / self.world_size as f64),
            Reduce::Min => (1, 1.),
            Reduce::Max => (2, 1.),
        };
        self.with("reduce", |group| group.all_reduce(tensors, op, scale))
    }

    /// Reduces numbers over all processes, such as a loss and how many images were right.
    /// Collective.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Torch`].
    pub fn all_reduce_numbers(&self, numbers: &[f64], reduce: Reduce) -> Result<Vec<f64>> {
        if self.group.is_none() {
            return Ok(numbers.to_vec());
        }
        let tensor = Tensor::f_from_slice(numbers)?.f_to_device(self.device)?;
        self.all_reduce(std::slice::from_ref(&tensor), reduce)?;
        Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?)?)
    }

    /// The tensors of all processes, by rank. Kinds and shapes are the same. Collective.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Torch`].
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        if self.group.is_none() {
            let mut copy = tch::no_grad(|| tensor.f_empty_like())?;
            copy.f_copy_(&tensor.f_detach()?)?;
            return Ok(vec![copy]);
        }
        let empty = |_| Tensor::f_empty(tensor.size(), (tensor.f_kind()?, tensor.device()));
        let all = (0..self.world_size).map(empty).collect::<Result<Vec<_>, _>>()?;
        self.with("gather", |group| group.all_gather(tensor, &all))?;
        Ok(all)
    }

    /// Averages the gradients of all variables over the processes, after `backward` and before
    /// `step`: the plain way, for loops that have no [`DataParallel`](crate::DataParallel).
    /// Collective.
    ///
    /// A variable without a gradient counts as zero where others have one. A variable that has none
    /// in any process keeps none.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Torch`].
    pub fn average_gradients(&self, vs: &VarStore) -> Result<()> {
        if self.group.is_none() {
            return Ok(());
        }
        let trainable: Vec<_> =
            sorted(vs).into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
        let has: Vec<f64> =
            trainable.iter().map(|(_, tensor)| f64::from(tensor.grad().defined())).collect();
        let any = self.all_reduce_numbers(&has, Reduce::Max)?;
        let mut gradients = Vec::new();
        for ((_, tensor), _) in trainable.iter().zip(any).filter(|(_, any)| *any > 0.) {
            let gradient = tensor.f_grad()?;
            if gradient.defined() {
                gradients.push(gradient);
            } else {
                // Autograd alone gives a tensor a gradient.
                let nothing = tensor.f_sum(tensor.f_kind()?)?.f_mul_scalar(0.)?;
                nothing.f_backward()?;
                gradients.push(tensor.f_grad()?);
            }
        }
        self.all_reduce(&gradients, Reduce::Mean)
    }

    /// Averages what is not trained over the processes: the running statistics of batch norms that
    /// see only their own part of each batch. Call it before planning, evaluating and saving.
    /// Collective.
    ///
    /// # Errors
    /// [`Error::Unlike`] when processes have different variables, and [`Error::Rank`] in the
    /// others; [`Error::Collective`], [`Error::Torch`].
    pub fn average_statistics(&self, vs: &VarStore) -> Result<()> {
        let is_statistic = |(_, tensor): &(String, Tensor)| {
            !tensor.requires_grad()
                && matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
        };
        let statistics: Vec<_> = sorted(vs).into_iter().filter(is_statistic).collect();
        self.ensure_alike(&statistics)?;
        let all: Vec<_> = statistics.into_iter().map(|(_, tensor)| tensor).collect();
        self.all_reduce(&all, Reduce::Mean)
    }

    /// Checks that all processes have the same values, to the bit, in every variable. Collective.
    ///
    /// # Errors
    /// [`Error::Differs`] in every process; [`Error::Unlike`] when processes have different
    /// variables, and [`Error::Rank`] in the others; [`Error::Collective`], [`Error::Torch`].
    pub fn ensure_same(&self, vs: &VarStore) -> Result<()> {
        let variables = sorted(vs);
        self.ensure_alike(&variables)?;
        for (variable, tensor) in variables {
            let tensor = tch::no_grad(|| tensor.f_detach()?.f_contiguous())?;
            let all = self.all_gather(&tensor)?;
            for (rank, other) in all.iter().enumerate().skip(1) {
                // NaN equals itself here: what counts is whether processes are alike.
                if !all[0].f_allclose(other, 0., 0., true)? {
                    return Err(Error::Differs { variable, rank });
                }
            }
        }
        Ok(())
    }

    /// Runs `forward` with batch norms whose batch statistics are those of the batches of all
    /// processes: `SyncBatchNorm`. Collective.
    ///
    /// It is [`nn::synchronised`] with the sum over all processes. The parts may have different
    /// numbers of samples. Only training passes have batch statistics.
    ///
    /// # Errors
    /// [`Error::Network`] with the error of the sum.
    pub fn synchronised<T>(&self, forward: impl FnOnce() -> T) -> Result<T> {
        self.synchronised_if(true, forward)
    }

    /// Like [`synchronised`](Self::synchronised); `counts` is whether the samples of this process
    /// count in the statistics.
    pub(crate) fn synchronised_if<T>(
        &self,
        counts: bool,
        forward: impl FnOnce() -> T,
    ) -> Result<T> {
        let Some(group) = &self.group else { return Ok(forward()) };
        let (group, rank) = (Rc::clone(group), self.rank);
        let sum = move |tensor: &Tensor| {
            let action = "synchronise a batch norm";
            let own = if counts { Ok(tensor.shallow_clone()) } else { tensor.f_mul_scalar(0.) };
            let sum = own.map_err(|error| error.to_string()).and_then(|own| group.sum(&own));
            sum.map_err(|cause| {
                let error = Error::Collective { rank, action, cause };
                slim_runtime::Error::Custom(error.to_string())
            })
        };
        Ok(nn::synchronised(sum, forward)?)
    }

    /// Runs a collective operation, unless this process is alone.
    pub(crate) fn with(
        &self,
        action: &'static str,
        run: impl FnOnce(&Group) -> Result<(), String>,
    ) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        run(group).map_err(|cause| self.failed(action, cause))
    }

    /// The processes, unless this one is alone.
    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_deref()
    }

    pub(crate) fn failed(&self, action: &'static str, cause: String) -> Error {
        Error::Collective { rank: self.rank, action, cause }
    }
}

/// The variables of a store by name: a store has no order of its own, and processes need the same.
pub(crate) fn sorted(vs: &VarStore) -> Vec<(String, Tensor)> {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    variables
}
