//! Measuring: how fast a network is before and after slimming, how fast it would be, and which
//! widths a device is fast at.
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
//! # A budget of latency
//!
//! A [`LatencyTable`](crate::LatencyTable) has the times of a network's layers at a grid of widths,
//! each with its quartiles. It is measured once per device and number of threads, and saved as
//! JSON.
//! [`Slimming::latency`](crate::Slimming::latency) removes channels until the predicted latency is
//! at most a share of the dense network's, and [`check`](crate::LatencyTable::check) sets the
//! prediction beside measurements:
//!
//! ```
//! use slim_runtime::{Benchmark, LatencyOptions, LatencyTable, Prunable, Slimming, model, nn};
//! use tch::{Device, Kind, Tensor, nn::ModuleT};
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
//! # tch::set_num_threads(1); // other tests run beside this one
//! # let image = Tensor::rand([1, 3, 8, 8], (Kind::Float, Device::Cpu));
//! # let fresh = || {
//! #     let vs = nn::VarStore::new(Device::Cpu);
//! #     let net = Net::new(vs.root());
//! #     for (index, norm) in [&net.bn1, &net.bn2].into_iter().enumerate() {
//! #         let scale = norm.ws.as_ref().unwrap();
//! #         let (first, count) = (0.1 + index as f64, scale.size()[0]);
//! #         let values = Tensor::linspace(first, 2., count, (Kind::Float, Device::Cpu));
//! #         tch::no_grad(|| scale.shallow_clone().copy_(&values));
//! #     }
//! #     (net, vs)
//! # };
//! # let ((dense, _first), (mut net, _second)) = (fresh(), fresh());
//! // `dense` and `net` are two replicas of a trained network.
//! let options = LatencyOptions::new();
//! # let options = options.points(2).runs(3);
//! let table = LatencyTable::measure(&net, |net| net.forward_t(&image, false), &options)?;
//! table.save(std::env::temp_dir().join("latency.json"))?; // to `load` and `extend` next time
//!
//! let plan = net.plan(&Slimming::latency(0.5, &table)?)?;
//! net.apply(&plan)?;
//! let compared = Benchmark::new()
//!     .batch(1)
//!     .runs(50)
//!     .in_turn()
//!     .case("dense", || dense.forward_t(&image, false))
//!     .case("slimmed", || net.forward_t(&image, false))
//!     .run()?;
//! if let (Some(before), Some(after)) = (compared.case("dense"), compared.case("slimmed")) {
//!     println!("{}", table.check(&plan, before, after)?);
//! }
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! The table has convolutions, transposed convolutions, linear layers and batch norms. Batch norms
//! are there because small networks notice them: they are 12 % of the predicted latency of
//! PreResNet-20, and 2 % of that of VGG-19. A ReLU takes a third of its batch norm's time or less,
//! and is not in the table; neither are pools, sums, selections of channels, and the calls between
//! layers. So predictions are too low, most of all where layers are small, and a share of such a
//! network's latency is not fully reached: `docs/cli.md` has measurements. Ask for a smaller share
//! then, by the error that `check` shows. Times are those of one machine: measure another table on
//! another.
//!
//! At widths between the grid's, times are interpolated. Convolutions with 15, 31 or 63 output
//! channels took 3 to 9 % longer than those with 16, 32 or 64 on the CPU where this was tried,
//! which the table does not see; [`round_to`](crate::Slimming::round_to) works with a budget of
//! latency, too.
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
