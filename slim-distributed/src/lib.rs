//! Data-parallel training for [tch], with the distributed engine of libtorch: the one of PyTorch's
//! `DistributedDataParallel`, with Gloo between CPUs and NCCL between GPUs.
//!
//! Every process runs the same program, on its own part of each batch. `torchrun` starts the
//! processes, and starts them again when one dies:
//!
//! ```sh
//! torchrun --standalone --nproc-per-node=4 --no-python target/release/train
//! ```
//!
//! A program that is started alone trains alone, by the same code:
//!
//! ```
//! use slim_distributed::{Distributed, Sampler};
//! use slim_runtime::{Prunable, Slimming, model, nn};
//! use tch::nn::{ModuleT, OptimizerConfig};
//! use tch::{Kind, Tensor};
//!
//! model! {
//!     #[derive(Debug)]
//!     struct Net {
//!         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
//!         bn = batch_norm(8);
//!         relu;
//!         adaptive_avg_pool(1);
//!         flatten;
//!         fc = linear(8 => 10);
//!     }
//! }
//!
//! # fn main() -> slim_distributed::Result<()> {
//! # let (images, labels) = (Tensor::randn([20, 3, 8, 8], tch::kind::FLOAT_CPU), Tensor::zeros([20], tch::kind::INT64_CPU));
//! # let train = |net: &Net, shard: &slim_distributed::Shard| net.forward_t(&images.index_select(0, &shard.indices), true).log_softmax(-1, Kind::Float).nll_loss(&labels.index_select(0, &shard.indices));
//! let dist = Distributed::from_env()?;
//! let vs = nn::VarStore::new(dist.device());
//! let mut net = Net::new(vs.root());
//! dist.broadcast(&vs)?; // the weights of rank 0, everywhere
//!
//! let sampler = Sampler::new(&dist, 20, 8)?; // 20 samples, 8 in each global batch
//! let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
//! let mut parallel = dist.data_parallel(&vs)?;
//! for epoch in 0..2 {
//!     for shard in sampler.epoch(epoch) {
//!         optimizer.zero_grad();
//!         let loss = parallel.forward(|| train(&net, &shard) * shard.weight)?;
//!         parallel.backward(&loss)?; // gradients are averaged while others are still computed
//!         net.add_l1_subgradient(1e-4)?;
//!         optimizer.step();
//!     }
//! }
//! drop(parallel);
//!
//! // Rank 0 decides, and all make the same surgery, or none does.
//! let slimmed = dist.slim(&mut net, &Slimming::ratio(0.5))?;
//! let mut parallel = dist.data_parallel(&vs)?; // of the narrower tensors
//! # let _ = (&slimmed, &mut parallel);
//! # Ok(())
//! # }
//! ```
//!
//! | | |
//! | --- | --- |
//! | [`Distributed`] | the processes: who this one is, and collective operations over all of them |
//! | [`DataParallel`] | gradients that are averaged during `backward` |
//! | [`Distributed::slim`] | the same surgery in every process, or in none |
//! | [`Distributed::synchronised`] | batch norms with the statistics of the whole batch |
//! | [`Distributed::together`] | an error of one process that ends all of them |
//! | [`Sampler`], [`Share`] | the part of each batch that is this process's |
//!
//! The page `docs/distributed.md` of the repository leads from one machine to several.

mod agree;
mod data_parallel;
mod distributed;
mod environment;
mod error;
mod ffi;
mod rendezvous;
mod sampler;

pub use data_parallel::{DataParallel, DataParallelConfig, Times};
pub use distributed::{Distributed, DistributedConfig, Reduce};
pub use environment::Launch;
pub use error::{Error, Result};
pub use sampler::{Epoch, Part, Sampler, Shard, Share};
