//! Serving: runs a slimmed network without the code that made it.
//!
//! [`export::torch_script`](crate::export::torch_script) writes the network as TorchScript: weights
//! and operations in one file. It freezes the weights while libtorch traces `forward`, reads the
//! file back, and puts it in place only if the file computes what the network does.
//!
//! ```
//! use slim_runtime::{Prunable, export, model, nn};
//! use tch::{Device, Kind, Tensor, nn::ModuleT};
//!
//! model! {
//!     #[derive(Debug)]
//!     struct Net {
//!         conv = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
//!         bn = batch_norm(32);
//!         relu;
//!         adaptive_avg_pool(1);
//!         flatten;
//!         fc = linear(32 => 10);
//!     }
//! }
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.pt");
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(vs.root());
//! net.slim(0.5)?;
//!
//! let sample = Tensor::rand([1, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let exported = export::torch_script(&file, &net, &sample, |net, images| net.forward_t(images, false))?;
//! println!("{exported}");
//! # assert_eq!(exported.difference, 0.);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! In Python the file loads as an ordinary module. `eval()` changes nothing, and PyTorch's
//! inference passes accept it:
//!
//! ```python
//! net = torch.jit.load("net.pt")
//! fast = torch.jit.optimize_for_inference(torch.jit.freeze(net.eval()))
//! ```
//!
//! For several inputs, use [`torch_script_of_several`](crate::export::torch_script_of_several):
//!
//! ```
//! use slim_runtime::{Prunable, export, nn};
//! use tch::{Device, Kind, Tensor};
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.pt");
//! # let vs = nn::VarStore::new(Device::Cpu);
//! # let p = &vs.root();
//! # let net = Net {
//! #     conv: nn::conv2d(p / "conv", 3, 8, 3, Default::default()),
//! #     bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
//! #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
//! # };
//! let frames = [0, 1].map(|_| Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu)));
//! export::torch_script_of_several(&file, &net, &frames, |net, frames| {
//!     let features = (&frames[1] - &frames[0]).apply(&net.conv).apply_t(&net.bn, false).relu();
//!     features.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
//! })?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! The documentation of [`export`](crate::export) describes what a trace holds and what it fixes.
//!
//! # ONNX
//!
//! [`export::onnx`](fn@crate::export::onnx) writes the `forward` that `#[forward]` reads, for ONNX
//! Runtime, OpenVINO and others, from the shape of one sample. No Python takes part, and the
//! network is not run:
//!
//! ```
//! # use slim_runtime::{Prunable, export, model, nn};
//! # use tch::Device;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.onnx");
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
//! let vs = nn::VarStore::new(Device::Cpu);
//! let net = Net::new(vs.root());
//! println!("{}", export::onnx(&file, &net, &[&[3, 32, 32]])?);
//! // wrote net.onnx (2 kB): input [batch, 3, height, width] to output [batch, 10]; 1 batch norm folded
//! export::OnnxExport::new().half(true).metadata("source", "demo").write(&file, &net, &[&[3, 32, 32]])?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
