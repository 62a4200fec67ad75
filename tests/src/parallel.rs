//! Data-parallel training of a small network, as each process of a group runs it, and as one
//! process simulates several.

use slim_distributed::{DataParallelConfig, Distributed, Result, Sampler, Shard};
use slim_runtime::nn::{self, OptimizerConfig, VarStore};
use slim_runtime::{Prunable, Slimming, model};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

model! {
    /// Two convolutions with batch norms.
    #[derive(Debug)]
    pub struct Net {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        relu;
        conv2 = conv2d(8 => 12, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(12);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(12 => 5);
    }
}

/// 58 samples in batches of 12: the last one has 10, which three and four processes share unevenly.
const SAMPLES: usize = 58;
const BATCH: usize = 12;
const EPOCHS: u64 = 2;
/// Before this step, the network is slimmed.
const SURGERY: usize = 5;

/// How gradients and statistics come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// [`Distributed::average_gradients`], with synchronised batch norms.
    Plain,
    /// [`DataParallel`](slim_distributed::DataParallel), with synchronised batch norms.
    Reducer,
    /// The same, with batch norms whose statistics are averaged before surgery and at the end.
    Local,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Reducer, Self::Local];
}

/// Images and labels, the same in every process.
pub struct Data {
    images: Tensor,
    labels: Tensor,
}

impl Data {
    /// Noise around a pattern for each class, in `kind`.
    pub fn new(samples: usize, kind: Kind) -> Self {
        tch::manual_seed(100);
        let patterns = Tensor::randn([5, 3, 6, 6], (Kind::Double, Device::Cpu));
        let labels = Tensor::randint(5, [samples as i64], tch::kind::INT64_CPU);
        let noise = Tensor::randn([samples as i64, 3, 6, 6], (Kind::Double, Device::Cpu));
        Self { images: (noise + patterns.index_select(0, &labels)).to_kind(kind), labels }
    }

    /// The mean loss over a part of a batch. It is computed in the kind of the images: tch's
    /// `cross_entropy_for_logits` computes in single precision.
    pub fn loss(&self, net: &Net, shard: &Shard) -> Tensor {
        let [images, labels] =
            [&self.images, &self.labels].map(|all| all.index_select(0, &shard.indices));
        let kind = images.kind();
        net.forward_t(&images, true).log_softmax(-1, kind).nll_loss(&labels)
    }
}

/// A network in double precision, with weights of this seed.
pub fn built(seed: i64) -> (Net, VarStore) {
    tch::manual_seed(seed);
    let mut vs = VarStore::new(Device::Cpu);
    let net = Net::new(vs.root());
    vs.double();
    (net, vs)
}

fn sgd(vs: &VarStore) -> nn::Optimizer {
    nn::Sgd { momentum: 0.9, ..Default::default() }.build(vs, 0.05).unwrap()
}

/// Trains with sparsity, slims in the middle, and trains on.
///
/// # Errors
/// Those of slim-distributed.
pub fn train(dist: &Distributed, way: Way) -> Result<VarStore> {
    // Each process has weights of its own until those of rank 0 come.
    let (mut net, vs) = built(dist.rank() as i64);
    dist.broadcast(&vs)?;
    let data = Data::new(SAMPLES, Kind::Double);
    let sampler = Sampler::new(dist, SAMPLES, BATCH)?.seed(7);
    let mut optimizer = sgd(&vs);
    let config = DataParallelConfig::new().bucket_bytes(2048).synchronised(way == Way::Reducer);
    let reducer = || (way != Way::Plain).then(|| dist.data_parallel_with(&vs, config)).transpose();
    let mut parallel = reducer()?;
    for (step, shard) in (0..EPOCHS).flat_map(|epoch| sampler.epoch(epoch)).enumerate() {
        if step == SURGERY {
            drop(parallel.take());
            if way == Way::Local {
                dist.average_statistics(&vs)?;
            }
            dist.slim(&mut net, &Slimming::ratio(0.4))?;
            optimizer = sgd(&vs);
            parallel = reducer()?;
        }
        optimizer.zero_grad();
        let loss = || data.loss(&net, &shard) * shard.weight;
        match &mut parallel {
            Some(parallel) => {
                let loss = parallel.forward(loss)?;
                parallel.backward(&loss)?;
            }
            None => {
                dist.synchronised(loss)?.f_backward()?;
                dist.average_gradients(&vs)?;
            }
        }
        net.add_l1_subgradient(1e-3)?;
        optimizer.step();
    }
    if way == Way::Local {
        dist.average_statistics(&vs)?;
    }
    dist.ensure_same(&vs)?;
    Ok(vs)
}

/// What [`Way::Local`] computes with `processes`, by as many networks in this process.
pub fn simulated(processes: usize) -> VarStore {
    let mut nets: Vec<_> = (0..processes).map(|_| built(0)).collect();
    let data = Data::new(SAMPLES, Kind::Double);
    let alone = Distributed::from_env().unwrap();
    let sampler = Sampler::new(&alone, SAMPLES, BATCH).unwrap().seed(7);
    let optimizers =
        |nets: &[(Net, VarStore)]| -> Vec<_> { nets.iter().map(|(_, vs)| sgd(vs)).collect() };
    let mut all = optimizers(&nets);
    for (step, batch) in (0..EPOCHS).flat_map(|epoch| sampler.epoch(epoch)).enumerate() {
        if step == SURGERY {
            average(&nets, |name| name.contains("running"), Tensor::shallow_clone);
            let plan = nets[0].0.plan(&Slimming::ratio(0.4)).unwrap();
            for (net, _) in &mut nets {
                net.apply(&plan).unwrap();
            }
            all = optimizers(&nets);
        }
        let samples = batch.batch as i64;
        for (rank, ((net, _), optimizer)) in nets.iter().zip(&mut all).enumerate() {
            optimizer.zero_grad();
            let start = |rank: usize| samples * rank as i64 / processes as i64;
            let (from, to) = (start(rank), start(rank + 1));
            let mut part = sampler.epoch(0).next().unwrap();
            part.indices = batch.indices.narrow(0, from, to - from);
            let weight = (to - from) as f64 * processes as f64 / samples as f64;
            (data.loss(net, &part) * weight).backward();
        }
        average(&nets, |name| !name.contains("running"), Tensor::grad);
        for ((net, _), optimizer) in nets.iter().zip(&mut all) {
            net.add_l1_subgradient(1e-3).unwrap();
            optimizer.step();
        }
    }
    average(&nets, |name| name.contains("running"), Tensor::shallow_clone);
    nets.swap_remove(0).1
}

/// Replaces a tensor of each variable by its mean over the networks.
fn average(
    nets: &[(Net, VarStore)],
    is_wanted: impl Fn(&str) -> bool,
    of: impl Fn(&Tensor) -> Tensor,
) {
    let _no_grad = tch::no_grad_guard();
    let all: Vec<_> = nets.iter().map(|(_, vs)| vs.variables()).collect();
    for name in all[0].keys().filter(|name| is_wanted(name)) {
        let tensors: Vec<_> = all.iter().map(|variables| of(&variables[name])).collect();
        let mean = Tensor::stack(&tensors, 0).mean_dim(0, false, Kind::Double);
        for mut tensor in tensors {
            tensor.copy_(&mean);
        }
    }
}
