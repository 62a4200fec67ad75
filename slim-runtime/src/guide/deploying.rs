//! Deploying: from a slimmed network to one that answers fast.
//!
//! Fewer channels are fewer multiplications. What is left besides is in the way of them: batch
//! norms that are constants by now, and weights that a library reorders each time that it reads
//! them. [`deploy`](crate::deploy()) takes both out, on a sample that decides and proves, and
//! `forward` stays the one that was trained.
//!
//! ```
//! use slim_runtime::{Prunable, Slimming, deploy, model, nn};
//! use tch::{Device, Tensor, nn::ModuleT};
//!
//! model! {
//!     #[derive(Debug)]
//!     pub struct Net {
//!         conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
//!         bn1 = batch_norm(32);
//!         a = relu;
//!         conv2 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
//!         bn2 = batch_norm(32);
//!         bn2 + a;
//!         relu;
//!         adaptive_avg_pool(1);
//!         flatten;
//!         fc = linear(32 => 10);
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(vs.root());
//! let plan = net.plan(&Slimming::ratio(0.5).round_to(8))?; // widths that the kernels like
//! let slimmed = net.apply(&plan)?;
//! // Fine-tune, and save: `checkpoint::save(path, &vs, &slimmed)`.
//!
//! let sample = Tensor::randn([1, 3, 32, 32], tch::kind::FLOAT_CPU); // of the size that will be served
//! let deployed = deploy(&mut net, &sample, |net, images| net.forward_t(images, false))?;
//! println!("{deployed}");
//! assert_eq!(deployed.folded(), 2);
//! drop(vs); // the weights as they were
//! let answer = net.forward_t(&sample, false);
//! # assert_eq!(answer.size(), [1, 10]);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! # What goes into what
//!
//! A batch norm goes into the convolution, transposed convolution or linear layer that is directly
//! in front of it and that nothing else reads. The wiring knows that; average pools may be in
//! between, max-pools may not. What the wiring does not say, such as a ReLU that `forward` has in
//! between, is found by comparing outputs on the sample, and the network is then refused, with the
//! pair. Say it where the fields are, `#[prune(act = relu)]` on the convolution, and this batch
//! norm stays.
//!
//! | batch norm | what becomes of it |
//! | --- | --- |
//! | [`nn::BatchNorm`](crate::nn::BatchNorm), and all of [`model!`](crate::model) | skipped; it costs nothing |
//! | tch's | an identity that tch still computes; build it with [`nn::batch_norm2d`](crate::nn::batch_norm2d) (same signature) |
//! | behind a sum, a concatenation, an activation, in front of a convolution (pre-activation networks) | stays |
//!
//! # Layouts
//!
//! | [`Layout`](crate::Layout) | where | what it takes |
//! | --- | --- | --- |
//! | contiguous | everywhere | nothing; it is what tch makes |
//! | channels-last | everywhere | nothing; the images become channels-last by themselves |
//! | packed | on a CPU, in `f32`, for each [`nn::Conv2D`](crate::nn::Conv2D) that is padded with zeros | memory for the weights once more |
//!
//! The fastest of them on the sample stays, if it is at least 3 % faster than contiguous. Measured
//! is the median over rounds in which the layouts take turns. In none of them does `forward` see
//! anything else than ordinary tensors; one that asks for contiguous ones (`view`, where `reshape`
//! or `flatten` would do) panics in the other two, which are out then, and the report gives
//! libtorch's words.
//!
//! Packed weights are oneDNN's own kind of tensor. What cannot hold them, a TorchScript trace for
//! one, runs under [`functional::without_packing`](crate::functional::without_packing).
//!
//! # In place
//!
//! New memory for each output is a good part of a forward pass at small batches. `relu_` on what a
//! layer has just made, and `g_add_` on the end of a residual branch, write where they read, in
//! training too: the backward passes of convolutions, linear layers, batch norms and sums do not
//! need their outputs. `model!` does so where nothing else reads the value.
