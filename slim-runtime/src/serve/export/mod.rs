//! Export for serving: [ONNX](#onnx) and TorchScript.
//!
//! [`onnx`](fn@onnx) writes the file that runtimes other than libtorch take. [`torch_script`]
//! writes a network, its weights and the operations of its `forward`, into one file. libtorch runs
//! this file without this crate and without the network's definition: from Rust
//! (`tch::CModule::load`), C++ (`torch::jit::load`) and Python (`torch.jit.load`). A slimmed
//! network is written as it is, so the files contain nothing about slimming.
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
//! `forward` runs once on the sample, and the trace records the operations of libtorch. Anything
//! that Rust does in between is not recorded, and its results are fixed:
//!
//! * **Sizes** that `forward` reads, `xs.size()[0]`, and passes on, for instance to a `view` or to
//!   the states of tch's `LSTM`. `flatten(1, -1)` and `view([-1, 512])` leave the batch free, and
//!   so do [`nn::lstm`](crate::nn::lstm), `gru`, `rnn_tanh` and `rnn_relu`. [`TorchScript::batch`]
//!   says whether it is free: `forward` is traced on twice the batch, too. If that trace is the
//!   same, the file is tried on twice the batch. If it differs, the file is for the sample's batch
//!   alone. Whether the sides of images and the number of positions are free depends on `forward`
//!   in the same way, but is not tried.
//! * **Tensors made of numbers** that `forward` gets from Rust, by `Tensor::from_slice`: the trace
//!   has zeros in their place, so the file would compute something else, and the export is refused.
//!   Make such tensors before, as a field of the network.
//! * **Branches** and loops: the file has the path that was taken on the sample. A branch that
//!   depends on the values of the input is found if the same values in reversed order give another
//!   output, and the export is refused.
//! * **The mode**: a pass in training mode is an error. `eval()` and `train()` of the loaded module
//!   change nothing.
//! * **The device and the kind** of the weights and of the tensors that `forward` makes. A network
//!   on a GPU loads onto a GPU; export it on the CPU for a file that loads anywhere.
//!
//! Weights are constants of the file: they are not among the loaded module's parameters, and need
//! no gradient.
//!
//! PyTorch deprecates TorchScript from version 2.11 on. libtorch still traces, loads and runs it;
//! `torch.jit.load` warns.
//!
//! # ONNX
//!
//! [`onnx`](fn@onnx) writes the calls that a `forward` makes, as
//! [`#[forward]`](crate::forward) reads them: without Python, without running the network, and with
//! the operations of your code under the paths of your fields. What a trace fixes is free here: the
//! batch, and each other size at which `forward` makes the same calls. An operation that has no
//! ONNX form is refused, with its source line and the fix. [`OnnxExport`] has the options.
//!
//! `examples/python/check_onnx.py FILE.onnx` compares the outputs of ONNX Runtime and OpenVINO with
//! those of Rust; `examples/onnx_runtime.rs` serves a file from Rust without libtorch.
//!
//! # ONNX in 8 bits
//!
//! [`OnnxExport::int8`] writes convolutions and linear layers for integer kernels: static
//! quantisation. [`Calibration::record`] runs the network on some hundred samples and records the
//! range of what each layer reads and writes; [`OnnxExport::int8`] has the formulas. Batch norms
//! are folded first. An output is quantised behind the ReLU that reads it, whose work the
//! quantisation then does, because the range begins at 0.
//!
//! ```no_run
//! # use slim_runtime::{Prunable, Result, export::{Calibration, OnnxExport}};
//! # use tch::{Tensor, nn::ModuleT};
//! # fn export(net: &(impl ModuleT + Prunable), batches: &[Tensor]) -> Result<()> {
//! let calibration = Calibration::record(net, batches, |net, xs| net.forward_t(xs, false))?;
//! let written = OnnxExport::new().int8(&calibration).write("net.onnx", net, &[&[3, 224, 224]])?;
//! println!("{written}"); // …; 54 of 54 layers in 8 bits
//! # Ok(())
//! # }
//! ```
//!
//! Only the layers of [`nn`](crate::nn) report their ranges, and only a network whose `forward` is
//! read by [`#[forward]`](crate::forward) has nodes. What is not quantised stays in floats, and the
//! report says why. Measure before serving: how much faster integers are depends on the processor
//! and on the network, and so does what they cost in accuracy.

mod calibration;
mod check;
mod freeze;
mod onnx;
mod report;
mod trace;

pub use calibration::Calibration;
pub use onnx::{Float, Int8, Onnx, OnnxExport, Port, PortDim, onnx};

use std::path::{Path, PathBuf};
use std::slice;

use serde::Serialize;
use tch::{CModule, Tensor};

use crate::analysis::{self, Masking};
use crate::error::FileError;
use crate::io::atomic::Draft;
use crate::nn::functional::without_packing;
use crate::numeric::OutputError;
use crate::numeric::compare::tolerance_of;
use crate::{Error, Prunable, Result, surgery};
use freeze::Frozen;

/// Writes a network as TorchScript, after reading the file back and checking that it computes the
/// same.
///
/// `forward` runs the network in evaluation mode. It runs on `sample`, on the values of `sample` in
/// reversed order and on twice the batch, so real values show more than zeros. For the last of
/// these, a second file is written beside the first for a moment. Meanwhile gradients are off and
/// weights are frozen; afterwards, `requires_grad` is restored. The file is replaced as a whole: on
/// an error, an existing file stays.
///
/// An example and a description of what a trace holds are in the [module's documentation](self).
///
/// # Errors
/// [`FileError::Export`](crate::error::FileError::Export) when `forward` panics, when it cannot be
/// traced, or when what was read back computes something else;
/// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode); [`Error::Io`];
/// [`Error::Torch`].
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

/// Like [`torch_script`], for a network with several inputs: the loaded module takes them one by
/// one. There is only one output, because tch cannot end a trace with a tuple. Combine several
/// outputs into one tensor, by `Tensor::cat` or `stack`.
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
    let (OutputError { difference, magnitude }, batch) = written
        .map_err(|reason| Error::File(FileError::Export { file: file.to_owned(), reason }))?;
    let bytes = draft.file().metadata().map_err(io("write"))?.len();
    draft.publish().map_err(io("write"))?;
    Ok(TorchScript { file: file.to_owned(), bytes, batch, difference, magnitude })
}

/// The result of an export. Prints as a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TorchScript {
    /// The path of the file.
    pub file: PathBuf,
    /// The size of the file.
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
    /// Any number: the trace of twice the sample is the same, and was tried.
    Any,
    /// Only as many as the sample has.
    Only {
        /// The number of samples.
        size: i64,
        /// What differs with twice as many.
        why: String,
    },
    /// Not known: the network itself does not take twice the sample, or its inputs have no common
    /// batch.
    Unknown,
}

/// Runs `body`, reports a batch norm that updates its statistics, and restores the statistics.
///
/// # Errors
/// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode), [`Error::Torch`].
fn in_evaluation<M: Prunable + ?Sized, T>(net: &M, body: impl FnOnce(&M) -> T) -> Result<T> {
    match analysis::trace(net, Masking::default()) {
        Ok(graph) => surgery::observe(net, &graph, body),
        // The network may run even if its wiring is wrong. If a statistic changes then, the file
        // computes something else, which the check finds.
        Err(_) => Ok(body(net)),
    }
}

/// # Errors
/// The reason why the network cannot be written, in words.
fn write<M: Prunable + ?Sized>(
    file: &Path,
    net: &M,
    samples: &[Tensor],
    forward: &impl Fn(&M, &[Tensor]) -> Tensor,
) -> Result<(OutputError, Batch), String> {
    let (tensors, all) = analysis::tensors(net);
    let tensors = || tensors.iter().map(|(_, tensor)| tensor);
    let _no_grad = tch::no_grad_guard();
    let _frozen = Frozen::all(tensors()).map_err(trace::words)?;
    // A trace holds no packed weights.
    let run = |inputs: &[Tensor]| without_packing(|| forward(net, inputs));

    // Runs before the trace, because tensors that layers make in their first pass and keep, such as
    // indices, then exist, and the trace can hold them.
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
    let tolerance = tensors().map(tolerance_of).fold(0., f64::max);
    let close = check::check(&served, samples, &expected, &run, tolerance)?;
    Ok((close, check::batch(file, &served, samples, &run, tolerance)))
}
