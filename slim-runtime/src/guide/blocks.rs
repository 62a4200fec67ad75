//! Blocks of detectors and of recent classifiers: plain code under `#[forward]`.
//!
//! # A shortcut that only some blocks have
//!
//! In an inverted residual the input is added where the stride is one and the widths agree. Whether
//! it is, is decided once and stored: a comparison of the widths in `forward` could change when
//! channels go.
//!
//! ```
//! use slim_runtime::{Prunable, forward, nn};
//! use tch::Tensor;
//!
//! type ConvBn = (nn::Conv2D, nn::BatchNorm);
//!
//! #[derive(Debug, Prunable)]
//! struct InvertedResidual { expand: ConvBn, depthwise: ConvBn, project: ConvBn, is_residual: bool }
//!
//! #[forward]
//! impl nn::ModuleT for InvertedResidual {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let apply = |xs: &Tensor, (conv, bn): &ConvBn| xs.apply(conv).apply_t(bn, train);
//!         let ys = apply(xs, &self.expand).relu6();
//!         let ys = apply(&ys, &self.depthwise).relu6();
//!         let ys = apply(&ys, &self.project);
//!         if self.is_residual { xs + ys } else { ys }
//!     }
//! }
//! ```
//!
//! # Layer scale
//!
//! A tensor with one value for each channel, which multiplies a branch, is a field. It follows the
//! channels that it meets:
//!
//! ```
//! # use slim_runtime::{Prunable, forward, nn};
//! # use tch::Tensor;
//! #[derive(Debug, Prunable)]
//! struct Branch { up: nn::Linear, down: nn::Linear, layer_scale: Tensor } // [channels]
//!
//! #[forward]
//! impl nn::Module for Branch {
//!     fn forward(&self, xs: &Tensor) -> Tensor {
//!         xs + xs.apply(&self.up).gelu("none").apply(&self.down) * &self.layer_scale
//!     }
//! }
//! ```
//!
//! # ELAN and C2f: a loop whose outputs are all concatenated
//!
//! ```
//! # use slim_runtime::{Prunable, forward, nn};
//! # use tch::Tensor;
//! # #[derive(Debug, Prunable)]
//! # struct ConvBn { conv: nn::Conv2D, bn: nn::BatchNorm }
//! # #[forward]
//! # impl nn::ModuleT for ConvBn {
//! #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//! #         xs.apply(&self.conv).apply_t(&self.bn, train).silu()
//! #     }
//! # }
//! #[derive(Debug, Prunable)]
//! struct C2f { cv1: ConvBn, cv2: ConvBn, m: Vec<(ConvBn, ConvBn)> }
//!
//! #[forward]
//! impl nn::ModuleT for C2f {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let mut parts = xs.apply_t(&self.cv1, train).chunk(2, 1);
//!         for (first, second) in &self.m {
//!             let last = &parts[parts.len() - 1];
//!             parts.push(last + last.apply_t(first, train).apply_t(second, train));
//!         }
//!         Tensor::cat(&parts, 1).apply_t(&self.cv2, train)
//!     }
//! }
//! # let vs = nn::VarStore::new(tch::Device::Cpu);
//! # let conv_bn = |p: nn::Path, a, b| ConvBn {
//! #     conv: nn::conv2d(&p / "conv", a, b, 1, nn::no_bias()),
//! #     bn: nn::batch_norm2d(&p / "bn", b, Default::default()),
//! # };
//! # let p = &vs.root();
//! # let block = C2f {
//! #     cv1: conv_bn(p / "cv1", 8, 16),
//! #     cv2: conv_bn(p / "cv2", 24, 8),
//! #     m: vec![(conv_bn(p / "m0", 8, 8), conv_bn(p / "m1", 8, 8))],
//! # };
//! # block.dependencies()?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! `chunk` cuts into equal parts, so both lose the same channels, and so do the bottlenecks that
//! are added to the second one. With [`nn::Split`](crate::nn::Split) in its place the parts lose
//! channels each for itself.
//!
//! # SPPF: a tensor and its own pools
//!
//! The pools have no weights of their own; the layer behind loses the inputs of a channel in all
//! four parts.
//!
//! ```
//! # use slim_runtime::{Prunable, forward, nn};
//! # use tch::Tensor;
//! # #[derive(Debug, Prunable)]
//! # struct Sppf { cv1: nn::Conv2D, bn1: nn::BatchNorm, cv2: nn::Conv2D, bn2: nn::BatchNorm }
//! #[forward]
//! impl nn::ModuleT for Sppf {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let mut parts = vec![xs.apply(&self.cv1).apply_t(&self.bn1, train).silu()];
//!         for index in 0..3 {
//!             parts.push(parts[index].max_pool2d([5, 5], [1, 1], [2, 2], [1, 1], false));
//!         }
//!         Tensor::cat(&parts, 1).apply(&self.cv2).apply_t(&self.bn2, train).silu()
//!     }
//! }
//! ```
//!
//! # Feature pyramids: lists of layers in pairs, and several outputs
//!
//! Levels that stand in two lists are walked together. Channels that are added from above and from
//! the side are one, so all lateral layers lose the same.
//!
//! ```
//! # use slim_runtime::{Prunable, forward, nn};
//! # use tch::Tensor;
//! # type ConvBn = (nn::Conv2D, nn::BatchNorm);
//! #[derive(Debug, Prunable)]
//! struct Pyramid { stages: Vec<ConvBn>, lateral: Vec<ConvBn>, output: Vec<nn::Conv2D> }
//!
//! #[forward]
//! impl Pyramid {
//!     /// The maps of all levels, the finest first.
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Vec<Tensor> {
//!         let (mut xs, mut maps) = (xs.shallow_clone(), Vec::new());
//!         for ((conv, bn), (side, side_bn)) in self.stages.iter().zip(&self.lateral) {
//!             xs = xs.apply(conv).apply_t(bn, train).relu();
//!             maps.push(xs.apply(side).apply_t(side_bn, train));
//!         }
//!         for level in (1..maps.len()).rev() {
//!             let above = maps[level].upsample_nearest2d_vec(None::<&[i64]>, [2., 2.]);
//!             maps[level - 1] = &maps[level - 1] + above;
//!         }
//!         maps.iter().zip(&self.output).map(|(map, output)| map.apply(output)).collect()
//!     }
//! }
//! # let vs = nn::VarStore::new(tch::Device::Cpu);
//! # let conv_bn = |p: nn::Path, a, b, kernel, stride| {
//! #     let config = nn::ConvConfig { stride, padding: kernel / 2, ..Default::default() };
//! #     (nn::conv2d(&p / "c", a, b, kernel, config), nn::batch_norm2d(&p / "b", b, Default::default()))
//! # };
//! # let p = &vs.root();
//! # let pyramid = Pyramid {
//! #     stages: vec![conv_bn(p / "s0", 3, 8, 3, 2), conv_bn(p / "s1", 8, 16, 3, 2)],
//! #     lateral: vec![conv_bn(p / "l0", 8, 12, 1, 1), conv_bn(p / "l1", 16, 12, 1, 1)],
//! #     output: vec![
//! #         nn::conv2d(p / "o0", 12, 5, 1, Default::default()),
//! #         nn::conv2d(p / "o1", 12, 5, 1, Default::default()),
//! #     ],
//! # };
//! # for name in ["s0", "s1", "l0", "l1"] {
//! #     let gamma = vs.variables()[&format!("{name}.b.weight")].shallow_clone();
//! #     tch::no_grad(|| gamma.shallow_clone().copy_(&tch::Tensor::rand_like(&gamma)));
//! # }
//! # let plan = pyramid.plan(&slim_runtime::Slimming::ratio(0.5))?;
//! # let kept = |path: &str| plan.layer(path).and_then(|layer| layer.axis("out")).map(|axis| &axis.keep);
//! # assert!(kept("lateral.0.0").is_some_and(|keep| keep.len() < 12));
//! # assert_eq!(kept("lateral.0.0"), kept("lateral.1.0"));
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! The maps that a network returns keep their channels, and the plan says so. `slim-zoo`'s
//! `yolov8n` is a whole detector written so, with Ultralytics' layer names.
