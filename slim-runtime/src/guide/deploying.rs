//! Deploying: makes a slimmed network fast at inference.
//!
//! Fewer channels are fewer multiplications. Two other costs remain: batch norms, which are
//! constants at inference, and weights that a library reorders each time that it reads them.
//! [`deploy`](crate::deploy()) removes both. It measures and verifies on a sample, and the
//! `forward` that was trained stays.
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
//! # Which layer a batch norm is folded into
//!
//! A batch norm is folded into the convolution, transposed convolution or linear layer that is
//! directly in front of it, if nothing else reads that layer. The wiring shows this. Average pools
//! may be in between, max-pools may not. If `forward` has an operation in between that the wiring
//! does not show, such as a ReLU, the outputs on the sample differ; the network is then refused,
//! and the error names the pair. Declare the ReLU where the fields are, with `#[prune(act = relu)]`
//! on the convolution, and this batch norm is not folded there.
//!
//! Otherwise it is folded into the convolution, transposed convolution or linear layer behind it:
//! its scale into that layer's weight, its shift into the bias. This is exact if
//!
//! * that layer alone reads the batch norm, and both are used once;
//! * only operations are in between that commute with a scale and a shift: pools, flattens,
//!   permutations. Through a max-pool, no scale may be negative;
//! * no zeros are put around what the layer reads, by its own padding or by a pad in `forward`: the
//!   shift would be missing there. With a shift of zero, such zeros do no harm;
//! * the wiring names the activations: it is read from `forward`, or declares them.
//!
//! If the outputs on the sample differ all the same, these batch norms stay. The report gives the
//! reason for each batch norm that stays.
//!
//! | batch norm | outcome |
//! | --- | --- |
//! | [`nn::BatchNorm`](crate::nn::BatchNorm), and all batch norms of [`model!`](crate::model) | skipped; it costs nothing |
//! | tch's | an identity that tch still computes; build it with [`nn::batch_norm2d`](crate::nn::batch_norm2d) (same signature) |
//! | behind a ReLU, in front of a layer without a border | folded into that layer, as above |
//! | in front of an activation (pre-activation networks), with no layer directly in front | stays |
//!
//! # Layouts
//!
//! | [`Layout`](crate::Layout) | where | cost |
//! | --- | --- | --- |
//! | contiguous | everywhere | none; it is tch's default |
//! | channels-last | everywhere | none; the images become channels-last by themselves |
//! | packed | on a CPU, in `f32`, for each [`nn::Conv2D`](crate::nn::Conv2D) that is padded with zeros | memory for a second copy of the weights |
//!
//! The layout that is fastest on the sample is chosen, if it is at least 3 % faster than
//! contiguous. The latency is the median over rounds in which the layouts take turns. In every
//! layout, `forward` sees only ordinary tensors. A `forward` that needs contiguous tensors (`view`,
//! where `reshape` or `flatten` would do) panics in the other two layouts. These are then out, and
//! the report quotes libtorch's message.
//!
//! Packed weights are tensors of oneDNN's own kind. Code that cannot hold them, such as a
//! TorchScript trace, runs under
//! [`functional::without_packing`](crate::functional::without_packing).
//!
//! # In place
//!
//! Allocating memory for each output is a good part of a forward pass at small batches. `relu_` on
//! the output of a layer, and `g_add_` at the end of a residual branch, write into the memory that
//! they read, in training too: the backward passes of convolutions, linear layers, batch norms and
//! sums do not need their outputs. `model!` does this wherever no other operation reads the value.
