//! Measuring: how fast a network is before and after slimming, and which widths a device is fast
//! at.
//!
//! # Before and after
//!
//! [`benchmark`](crate::benchmark()) runs a network on input of a given shape and returns the
//! latency of a pass. The quartiles show how far the figure can be trusted: half of the runs lie
//! between them.
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
//! If the two spreads overlap, the output says so. A pass is short compared with other load on a
//! machine, so compare on an idle machine, or [in turn](#in-turn).
//!
//! # In turn
//!
//! Two networks that are alive at once can be measured in turn, round by round; each goes first in
//! every other round. A disturbance of a round affects both, and the ratio is computed within
//! rounds. [`Benchmark`](crate::Benchmark) also measures networks with several inputs, and any
//! other closure:
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
//! # Widths that a device is fast at
//!
//! Slimming leaves 37 channels of one layer and 91 of the next, and kernels work on 8, 16 or 32 at
//! a time. [`Slimming::round_to`](crate::Slimming::round_to) restores some of the removed channels,
//! and may make the network faster. The best multiple depends on the processor, the library, the
//! kind of the numbers and the number of threads, so it is measured, in about a second and a half:
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
//! [`Slimming::round_for`](crate::Slimming::round_for) measures and rounds in one call, and rounds
//! nothing if rounding does not pay. The plan stores the number. [`Plan`](crate::Plan) shows what a
//! rounded network costs, and [`benchmark`](crate::benchmark()) shows how fast it is.
