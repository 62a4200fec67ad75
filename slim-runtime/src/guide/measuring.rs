//! What was won: measuring a network, and rounding it to what the device is fast at.
//!
//! # Before and after
//!
//! [`benchmark`](crate::benchmark()) runs a network on input of a shape and says how long a pass
//! takes. The spread says how far the figure can be trusted: half of the runs lie in it.
//!
//! ```
//! use slim_runtime::{Prunable, benchmark, model, nn};
//! use tch::Device;
//!
//! model! {
//!     #[derive(Debug)]
//!     struct Net {
//!         conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
//!         bn1 = batch_norm(32);
//!         relu;
//!         conv2 = conv2d(32 => 64, kernel = 3, padding = 1, bias = false);
//!         bn2 = batch_norm(64);
//!         relu;
//!         adaptive_avg_pool(1);
//!         flatten;
//!         fc = linear(64 => 10);
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(vs.root());
//! let before = benchmark(&net, [1, 3, 32, 32])?;
//! net.slim(0.5)?;
//! let after = benchmark(&net, [1, 3, 32, 32])?;
//! println!("before {before}\nafter  {after}\n{}", after.against(&before));
//! # assert!(after.against(&before).times() > 0.);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! ```text
//! before 816 µs (795–861), 1811 runs, batch 1, cpu, 2 threads
//! after  330 µs (319–352), 4433 runs, batch 1, cpu, 2 threads
//! 816 µs → 330 µs, 2.5 times as fast
//! ```
//!
//! Where the two spreads overlap, it says so. A pass is short next to what else a machine does, so
//! compare on one that is idle, or [in turn](#in-turn).
//!
//! # In turn
//!
//! Two networks that are alive at once are measured round by round, each first in every other
//! round. Whatever disturbs a round disturbs both, and the ratio is taken within rounds.
//! [`Benchmark`](crate::Benchmark) also measures networks of several inputs, and anything else that
//! is a closure:
//!
//! ```
//! use slim_runtime::{Benchmark, Plan, Prunable, Slimming, nn};
//! use tch::{Device, Kind, Tensor, nn::ModuleT};
//!
//! # #[derive(Debug, Prunable)]
//! # #[prune(sequential)]
//! # struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
//! # impl Net {
//! #     fn new(p: nn::Path) -> Self {
//! #         Net {
//! #             conv1: nn::conv2d(&p / "conv1", 3, 32, 3, Default::default()),
//! #             bn1: nn::batch_norm2d(&p / "bn1", 32, Default::default()),
//! #             conv2: nn::conv2d(&p / "conv2", 32, 64, 3, Default::default()),
//! #             bn2: nn::batch_norm2d(&p / "bn2", 64, Default::default()),
//! #             fc: nn::linear(&p / "fc", 64, 10, Default::default()),
//! #         }
//! #     }
//! # }
//! # impl ModuleT for Net {
//! #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//! #         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
//! #         let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
//! #         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
//! #     }
//! # }
//! let (first, second) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
//! let (dense, mut slim) = (Net::new(first.root()), Net::new(second.root()));
//! slim.slim(0.5)?;
//!
//! let images = Tensor::rand([1, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let compared = Benchmark::new()
//!     .batch(1)
//!     .runs(50)
//!     .in_turn()
//!     .case("dense", || dense.forward_t(&images, false))
//!     .case("slimmed", || slim.forward_t(&images, false))
//!     .run()?;
//! println!("{compared}");
//! # assert!(compared.times_as_fast("slimmed", "dense").is_some());
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! # Numbers of channels that a device is fast at
//!
//! Slimming leaves 37 channels of one layer and 91 of the next, and kernels work on 8, 16 or 32 at
//! a time. [`Slimming::round_to`](crate::Slimming::round_to) gives back some of the channels that
//! went, and the network may become faster for it. To which multiple depends on the processor, the
//! library, the kind of the numbers and the number of threads, so it is measured, in about a second
//! and a half:
//!
//! ```
//! use slim_runtime::{Slimming, preferred_multiple};
//! use tch::{Device, Kind};
//!
//! # tch::set_num_threads(1); // other tests run beside this one
//! let preferred = preferred_multiple(Device::Cpu, Kind::Float)?;
//! println!("{preferred}");
//!
//! let slimming = Slimming::ratio(0.5).round_to(preferred.multiple);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! [`Slimming::round_for`](crate::Slimming::round_for) is both in one call, and rounds nothing
//! where it does not pay. The plan keeps the number. What a rounded network costs and what it wins,
//! [`Plan`](crate::Plan) and [`benchmark`](crate::benchmark()) say.
