//! Networks for serving: TorchScript, and from there ONNX.
//!
//! [`torch_script`] writes a network, its weights and what its `forward` does with them, into one
//! file that libtorch runs without this crate and without the network's definition: from Rust
//! (`tch::CModule::load`), C++ (`torch::jit::load`) and Python (`torch.jit.load`). It is what it
//! was slimmed to, so nothing of slimming is in the file.
//!
//! ```
//! use slim_runtime::{Prunable, export, model, nn};
//! use tch::{CModule, Device, Kind, Tensor, nn::ModuleT};
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
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.pt");
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(vs.root());
//! net.slim(0.5)?;
//!
//! let images = Tensor::randn([2, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let exported = export::torch_script(&file, &net, &images, |net, images| net.forward_t(images, false))?;
//! println!("{exported}"); // wrote net.pt (6 kB), for batches of any size; its outputs (up to 0.4) are the network's, to the bit
//!
//! let served = CModule::load(&file).unwrap();
//! assert_eq!(served.forward_ts(&[&images]).unwrap().size(), [2, 10]);
//! # assert_eq!(exported.batch, export::Batch::Any);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! # What a trace holds
//!
//! `forward` runs once on the sample, and the operations that libtorch sees are written down. What
//! Rust does in between is not seen, and its results are fixed as they were:
//!
//! * **Sizes** that `forward` reads, `xs.size()[0]`, and passes on, as to a `view`.
//!   `flatten(1, -1)` and `view([-1, 512])` leave the batch free. [`TorchScript::batch`] says
//!   whether it is: the file is tried on twice the batch. Sides of images are free in the same way,
//!   by what `forward` does, and are not tried.
//! * **Tensors made of numbers** that `forward` gets from Rust, by `Tensor::from_slice`: the trace
//!   has zeros in their place, so the file computes something else, and is refused. Make them
//!   before, as a field of the network.
//! * **Branches** and loops: what was taken on the sample is in the file. One that depends on the
//!   values of the input is found where the same values in reversed order give another output, and
//!   refused.
//! * **The mode**: a pass in training mode is an error. `eval()` and `train()` of the loaded module
//!   change nothing.
//! * **The device and the kind** of the weights and of what `forward` makes. A network on a GPU
//!   loads onto a GPU; export it on the CPU for a file that loads anywhere.
//!
//! Weights are constants of the file: they are not among the loaded module's parameters, and need
//! no gradient.
//!
//! # ONNX
//!
//! No crate writes ONNX soundly enough to build on; as of now there are
//!
//! | crates | |
//! | --- | --- |
//! | `onnx-protobuf` 0.2.3, `onnx-pb` 0.1.4 | bindings to the file format: no operators, no shapes, no checks |
//! | `onnx-helpers` 2.2.1, `onnx` 0.1.0 | helpers that build a graph; last released in 2020 and 2018 |
//! | `onnx-std` 0.1.0-dev.6 | input, output and validation; a pre-release |
//! | `burn-onnx` 0.23.0-pre.1 | imports and exports networks of Burn |
//! | `ort`, `tract-onnx`, `rten`, `candle-onnx`, `wonnx`, `onnx-ir` | read and run |
//!
//! PyTorch converts instead, what [`torch_script`] has written, and its batch stays free:
//!
//! ```python
//! torch.onnx.export(torch.jit.load("net.pt"), (images,), "net.onnx", dynamo=False, input_names=["input"], dynamic_axes={"input": {0: "batch"}})
//! ```
//!
//! `dynamo=False`, since the newer exporter takes Python modules alone.
//! `examples/python/to_onnx.py FILE.pt` does so, and compares the outputs of ONNX Runtime with
//! those of Rust.

mod check;
mod freeze;
mod report;
mod trace;

use std::path::{Path, PathBuf};
use std::slice;

use serde::Serialize;
use tch::{CModule, Tensor};

use crate::analysis::{self, Masking};
use crate::io::atomic::Draft;
use crate::nn::functional::without_packing;
use crate::numeric::compare::tolerance_of;
use crate::{Error, Prunable, Result, surgery};
use check::Closest;
use freeze::Frozen;

/// Writes a network as TorchScript, once it has been read back and computes the same.
///
/// `forward` runs the network in evaluation mode. It runs on `sample`, on its values in reversed
/// order and on twice the batch, so real values show more than zeros. Gradients are off and weights
/// are frozen meanwhile; afterwards each requires a gradient that did before. The file appears
/// whole, or what was there stays.
///
/// An example is in the [module's documentation](self), and so is what a trace holds.
///
/// # Errors
/// [`Error::Export`] when `forward` panics, when it cannot be traced, or when what was read back
/// computes something else; [`Error::TrainingMode`]; [`Error::Io`]; [`Error::Torch`].
pub fn torch_script<M: Prunable + ?Sized>(
    path: impl AsRef<Path>,
    net: &M,
    sample: &Tensor,
    forward: impl Fn(&M, &Tensor) -> Tensor,
) -> Result<TorchScript> {
    torch_script_of_several(path, net, slice::from_ref(sample), |net, inputs| {
        forward(net, &inputs[0])
    })
}

/// Like [`torch_script`], for a network of several inputs: the loaded module takes them one by one.
/// There is one output, since tch ends a trace without making a tuple; several have to be put into
/// one tensor, by `Tensor::cat` or `stack`.
///
/// # Errors
/// Those of [`torch_script`].
pub fn torch_script_of_several<M: Prunable + ?Sized>(
    path: impl AsRef<Path>,
    net: &M,
    samples: &[Tensor],
    forward: impl Fn(&M, &[Tensor]) -> Tensor,
) -> Result<TorchScript> {
    let file = path.as_ref();
    let io = |action: &'static str| move |cause| Error::Io { file: file.to_owned(), action, cause };
    let draft = Draft::new(file).map_err(io("write"))?;
    let written = in_evaluation(net, |net| write(draft.path(), net, samples, &forward))?;
    let (Closest { difference, magnitude }, batch) =
        written.map_err(|reason| Error::Export { file: file.to_owned(), reason })?;
    let bytes = draft.file().metadata().map_err(io("write"))?.len();
    draft.publish().map_err(io("write"))?;
    Ok(TorchScript { file: file.to_owned(), bytes, batch, difference, magnitude })
}

/// What was written. Prints as such.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TorchScript {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many samples it takes at once.
    pub batch: Batch,
    /// The largest difference between an output of the network and of the file.
    pub difference: f64,
    /// The largest magnitude of an output.
    pub magnitude: f64,
}

/// How many samples a file takes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Batch {
    /// Any number: it was tried on twice the sample.
    Any,
    /// As many as the sample has.
    Only {
        /// How many.
        size: i64,
        /// What happened with twice as many.
        why: String,
    },
    /// It could not be tried: the network itself does not take twice the sample, or its inputs have
    /// no common batch.
    Unknown,
}

/// Runs `body` where a batch norm that updates its statistics is found, and gets them back.
///
/// # Errors
/// [`Error::TrainingMode`], [`Error::Torch`].
fn in_evaluation<M: Prunable + ?Sized, T>(net: &M, body: impl FnOnce(&M) -> T) -> Result<T> {
    match analysis::trace(net, Masking::default()) {
        Ok(graph) => surgery::observe(net, &graph, body),
        // Whatever is wrong with its wiring, it may compute. A statistic that then changes makes
        // the file compute something else, which is found.
        Err(_) => Ok(body(net)),
    }
}

/// # Errors
/// Why it cannot be.
fn write<M: Prunable + ?Sized>(
    file: &Path,
    net: &M,
    samples: &[Tensor],
    forward: &impl Fn(&M, &[Tensor]) -> Tensor,
) -> Result<(Closest, Batch), String> {
    let (tensors, all) = analysis::tensors(net);
    let tensors = || tensors.iter().map(|(_, tensor)| tensor);
    let _no_grad = tch::no_grad_guard();
    let _frozen = Frozen::all(tensors()).map_err(trace::words)?;
    // A trace holds no packed weights.
    let run = |inputs: &[Tensor]| without_packing(|| forward(net, inputs));

    // Before it is traced: what layers make in their first pass and keep, as indices, is then
    // there, and a trace holds it.
    let expected = check::run(samples, &run)?;
    let traced = trace::trace(samples, &run).map_err(|reason| match all {
        Ok(()) => reason,
        Err(wiring) => format!("{reason} (the fields cannot be followed: {wiring})"),
    })?;
    traced
        .save(file)
        .map_err(|error| format!("the trace cannot be saved: {}", trace::words(error)))?;
    drop(traced);
    let served = CModule::load(file)
        .map_err(|error| format!("what was written cannot be read: {}", trace::words(error)))?;
    check::check(&served, samples, &expected, &run, tensors().map(tolerance_of).fold(0., f64::max))
}
