//! Training: penalties that part channels, pruning while a network is trained, and a teacher.
//!
//! # Penalties
//!
//! [`add_l1_subgradient`](crate::Prunable::add_l1_subgradient) is the penalty of Network Slimming.
//! A [`Regulariser`](crate::Regulariser) is a penalty for many steps, on what you choose:
//!
//! | made by | penalty, times the factor | proximal step |
//! | --- | --- | --- |
//! | `net.regulariser(Penalty::L1)` | `Σ\|γ\|` | soft thresholding |
//! | `net.regulariser(Penalty::L2)` | `Σγ²` | `γ / (1 + 2t)` |
//! | `net.regulariser(Penalty::GroupLasso)` | `Σ_g ‖w_g‖`, over everything that goes with each channel group | none |
//! | [`plan.regulariser(&net)`](crate::Plan::regulariser) | `Σ_g ‖w_g‖²`, over the groups that the plan removes: with a factor that grows, growing regularisation | `w / (1 + 2nt)` |
//!
//! Call [`add_gradient`](crate::Regulariser::add_gradient) between `backward` and `step`; its page
//! says what autocast and a scaled loss do to a penalty. Or call
//! [`shrink`](crate::Regulariser::shrink) after `step` for the proximal step, with which an L1
//! penalty leaves γ that are exactly 0. A [`Schedule`](crate::Schedule) multiplies the factor:
//! `1e-4 * schedule.at(step)`.
//!
//! # Pruning while training
//!
//! [`GradualPruning`](crate::GradualPruning) masks channels every few steps, by a plan for the
//! weights as they are and a ratio that grows, and cuts them out at the end. Masked channels are
//! trained on, so they may grow back until the next mask.
//!
//! ```
//! # use slim_runtime::{GradualPruning, Prunable, Schedule, Slimming, model, nn};
//! # use tch::nn::{ModuleT, OptimizerConfig};
//! # use tch::{Device, Kind, Tensor};
//! # model! {
//! #     #[derive(Debug)]
//! #     struct Net {
//! #         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
//! #         bn = batch_norm(8);
//! #         relu;
//! #         adaptive_avg_pool(1);
//! #         flatten;
//! #         fc = linear(8 => 10);
//! #     }
//! # }
//! # let vs = nn::VarStore::new(Device::Cpu);
//! # let mut net = Net::new(vs.root());
//! # let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, 0.1).unwrap();
//! # let (images, labels) = (Tensor::randn([4, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::zeros([4], (Kind::Int64, Device::Cpu)));
//! let gradual = GradualPruning::new(Slimming::ratio(0.5), Schedule::constant().cubic_ramp(10), 2)?;
//! for step in 1..=20 {
//!     optimizer.zero_grad();
//!     net.forward_t(&images, true).cross_entropy_for_logits(&labels).backward();
//!     optimizer.step();
//!     gradual.step(&mut net, step)?;
//! }
//! let slimmed = gradual.finish(&mut net)?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! It has no state: a program that saves weights, optimizer and the number of the step resumes to
//! the bit. In several processes each makes the same masks, and `Distributed::slim` of
//! `slim-distributed` cuts all of them by
//! [`gradual.slimming()`](crate::GradualPruning::slimming).
//!
//! # A teacher
//!
//! A slimmed network that is fine-tuned can learn the outputs of the dense one:
//!
//! ```
//! # use slim_runtime::distillation_loss;
//! # use tch::{Device, Kind, Tensor};
//! # let (student, teacher) = (Tensor::randn([4, 10], (Kind::Float, Device::Cpu)), Tensor::randn([4, 10], (Kind::Float, Device::Cpu)));
//! # let labels = Tensor::zeros([4], (Kind::Int64, Device::Cpu));
//! // `teacher` is computed within `tch::no_grad`, in evaluation mode.
//! let loss = 0.5 * student.cross_entropy_for_logits(&labels) + 0.5 * distillation_loss(&student, &teacher, 4.)?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
