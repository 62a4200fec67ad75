//! ONNX files, written from the `forward` that `#[forward]` reads: without Python, and without
//! running the network.

mod attribute;
mod builder;
mod cuts;
mod elementwise;
mod file;
mod fold;
mod int8;
mod layers;
mod lower;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod proto;
mod quantise;
mod reductions;
mod report;
#[cfg(test)]
mod tests;
mod views;
mod windows;

use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Kind, Tensor};

use super::calibration::{Calibration, Paths};
use crate::error::FileError;
use crate::graph::ValueId;
use crate::io::checkpoint::metadata_of;
use crate::plan::Slimmed;
use crate::symbolic::Program;
use crate::{Error, Prunable, Result, analysis};
use builder::{Builder, Dim, FileOptions};
use fold::Folds;
pub use int8::{Float, Int8};
use lower::{Element, Lowering, Value};

/// Writes a network as ONNX, for runtimes such as ONNX Runtime and OpenVINO.
///
/// The graph is that of the `forward` which [`#[forward]`](crate::forward) reads, in evaluation
/// mode. Nodes are named by field paths, and weights as in the variable store. Batch norms behind
/// a convolution or a linear layer are folded into it.
///
/// `shapes` has the shape of each input for one sample, as
/// [`cost_by_shape`](Prunable::cost_by_shape) takes it: `[channels, positions…]`, or `[positions]`
/// of tokens. It may be empty where `#[prune(input = [3, 224, 224])]` gives it. The batch is free
/// in the file, unless `forward` computes with it in a way that cannot be followed. So is each
/// other dimension at whose other sizes `forward` makes the same calls: the sides of images for a
/// fully convolutional network. A size that the struct states stays as it is.
///
/// The file appears whole or not at all. Options such as half precision are those of
/// [`OnnxExport`].
///
/// ```
/// use slim_runtime::{Prunable, export, model, nn};
/// use tch::Device;
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(8);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(8 => 10);
///     }
/// }
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("net.onnx");
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Net::new(vs.root());
/// net.slim(0.5)?;
/// let written = export::onnx(&file, &net, &[&[3, 32, 32]])?;
/// println!("{written}");
/// # assert_eq!(written.inputs[0].to_string(), "input [batch, 3, height, width]");
/// # assert_eq!(written.folded, 1);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Errors
/// [`FileError::Export`](crate::error::FileError::Export) for an operation that has no ONNX form:
/// the error names its source line, and the fix. [`Error::Io`], [`Error::Torch`], those of
/// [`trace`](Prunable::trace).
pub fn onnx<M: Prunable + ?Sized>(
    path: impl AsRef<Path>,
    net: &M,
    shapes: &[&[i64]],
) -> Result<Onnx> {
    OnnxExport::default().write(path, net, shapes)
}

/// How a network is written as ONNX.
///
/// ```
/// # use slim_runtime::export::OnnxExport;
/// let export = OnnxExport::new().half(true).metadata("trained on", "CIFAR-10");
/// ```
#[derive(Debug, Clone)]
pub struct OnnxExport {
    fold: bool,
    half: bool,
    external: bool,
    metadata: BTreeMap<String, String>,
    slimmed: Option<Slimmed>,
    int8: Option<Calibration>,
    full_range: bool,
}

impl Default for OnnxExport {
    fn default() -> Self {
        Self {
            fold: true,
            half: false,
            external: false,
            metadata: BTreeMap::new(),
            slimmed: None,
            int8: None,
            full_range: false,
        }
    }
}

impl OnnxExport {
    /// Batch norms folded, weights in the network's precision, one file below 2 GB.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether batch norms are folded into the layers in front of them. Runtimes fold them, too;
    /// a file without folding has the weights of the variable store.
    #[must_use]
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// Whether weights of two and more dimensions are stored in half precision. The network still
    /// computes in its own: the file is half as large, and not faster.
    #[must_use]
    pub fn half(mut self, half: bool) -> Self {
        self.half = half;
        self
    }

    /// Whether large weights are in a second file, `net.onnx.data`. From 2 GB on they always are.
    #[must_use]
    pub fn external_data(mut self, external: bool) -> Self {
        self.external = external;
        self
    }

    /// Whether convolutions and linear layers compute in 8 bits, by the ranges of a calibration:
    /// static quantisation, written as pairs of `QuantizeLinear` and `DequantizeLinear` that
    /// runtimes fuse into integer kernels.
    ///
    /// The arithmetic is that of [Jacob et al., 2018](https://arxiv.org/abs/1712.05877). An
    /// activation of the range `[a, b]`, widened to contain 0, is
    /// `q = round(x / s) + z` in unsigned 8 bits, with `s = (b − a) / 255` and `z = round(−a / s)`.
    /// A weight, with its batch norm folded in, is `round(w / t)` in signed 8 bits, with a scale
    /// `t = max |w| / 63` for each output channel: see [`full_range`](Self::full_range). A bias is
    /// `round(b / (s · t))` in 32 bits.
    ///
    /// Ranges are minima and maxima. Inputs and outputs of the network stay floats, as do layers
    /// that have no ranges: [`Onnx::int8`] names each, and why.
    #[must_use]
    pub fn int8(mut self, calibration: &Calibration) -> Self {
        self.int8 = Some(calibration.clone());
        self
    }

    /// Whether weights of [`int8`](Self::int8) use all 8 bits, `−127…127`, in place of `−63…63`.
    ///
    /// Processors of x86 without VNNI (AVX-512 VNNI, AVX-VNNI) add two products of 8 bits in 16,
    /// where `2 · 255 · 127` does not fit: sums saturate, and outputs are wrong. With 7 bits they
    /// fit everywhere. Use the full range for processors with VNNI and for ARM.
    #[must_use]
    pub fn full_range(mut self, full: bool) -> Self {
        self.full_range = full;
        self
    }

    /// Adds how the network was slimmed to the metadata of the file, under the keys of a
    /// [checkpoint](crate::checkpoint#the-file): `cfg`, the widths; `plan`, the channels of the
    /// original network that stay, as JSON for [`Plan::from_json`](crate::Plan::from_json); and
    /// `positions`. Runtimes ignore them, and hand them out.
    #[must_use]
    pub fn slimmed(mut self, slimmed: &Slimmed) -> Self {
        self.slimmed = Some(slimmed.clone());
        self
    }

    /// Adds an entry to the metadata of the file, such as the data set of the training.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Writes the file: see [`onnx`].
    ///
    /// # Errors
    /// Those of [`onnx`]; [`FileError::Export`](crate::error::FileError::Export) for a key of the
    /// metadata that this crate uses.
    pub fn write<M: Prunable + ?Sized>(
        &self,
        path: impl AsRef<Path>,
        net: &M,
        shapes: &[&[i64]],
    ) -> Result<Onnx> {
        let file = path.as_ref();
        let refused = |reason| Error::File(FileError::Export { file: file.to_owned(), reason });
        let shapes: Vec<Vec<i64>> = shapes.iter().map(|shape| shape.to_vec()).collect();
        let program = Program::of(net, &shapes)?;
        let (tensors, _) = analysis::tensors(net);
        let paths = Paths::of(&tensors);
        let kind = kind_of(&tensors).map_err(refused)?;
        let lowered = match self.lowered(&program, kind, &paths)? {
            Ok(lowered) => Ok(lowered),
            // Some operations have an ONNX form for one size of the input alone.
            Err(reason) => match program.with_fixed_sizes() {
                Some(program) => self.lowered(&program, kind, &paths)?,
                None => Err(reason),
            },
        };
        let Graph { builder, inputs, outputs, folded, int8 } = lowered.map_err(refused)?;
        let slimmed = self.slimmed.as_ref().map(|slimmed| (slimmed, slimmed.plan()));
        let metadata =
            metadata_of(slimmed, iter::empty(), self.metadata.clone()).map_err(refused)?;
        let metadata = BTreeMap::from_iter(metadata);
        let written = builder.finish(file, &metadata)?;
        let (data, bytes) = (written.data, written.bytes);
        Ok(Onnx { file: file.to_owned(), data, bytes, inputs, outputs, folded, int8 })
    }

    /// The graph of a program, or the reason why it has none.
    ///
    /// # Errors
    /// [`Error::Torch`].
    fn lowered(
        &self,
        program: &Program,
        kind: Kind,
        paths: &Paths,
    ) -> Result<Result<Graph, String>> {
        let folds = if self.fold {
            Folds::of(program).map_err(Error::torch("a folded batch norm"))?
        } else {
            Folds::default()
        };
        let options = FileOptions { half: self.half, external: self.external };
        let (builder, folded) = (Builder::new(&options, kind), folds.count());
        let plan = match self.plan(program, &folds, kind, paths) {
            Ok(plan) => plan,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut lowering = Lowering::new(program, builder, folds, kind, paths, plan);
        let mut ports = || {
            let inputs = set_inputs(&mut lowering, program)?;
            lowering.lower()?;
            Ok((inputs, set_outputs(&mut lowering, program)?))
        };
        let ports = ports();
        let (builder, int8) = (lowering.builder, lowering.int8.report);
        Ok(ports.map(|(inputs, outputs)| Graph { builder, inputs, outputs, folded, int8 }))
    }

    /// What computes in 8 bits.
    fn plan(
        &self,
        program: &Program,
        folds: &Folds,
        kind: Kind,
        paths: &Paths,
    ) -> Result<int8::Plan, String> {
        let Some(calibration) = &self.int8 else { return Ok(int8::Plan::default()) };
        if kind != Kind::Float {
            return Err(format!(
                "its weights are of kind {kind:?}; for 8 bits, convert the variable store to `Kind::Float` first"
            ));
        }
        let levels = if self.full_range { 127 } else { 63 };
        int8::Plan::of(program, folds, calibration, paths, levels)
    }
}

/// A graph that is not written yet.
struct Graph {
    builder: Builder,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    folded: usize,
    int8: Option<Int8>,
}

/// The result of an export to ONNX. Prints as a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Onnx {
    /// The path of the file.
    pub file: PathBuf,
    /// The path of the file with large weights, if there is one.
    pub data: Option<PathBuf>,
    /// The size of the files.
    pub bytes: u64,
    /// The inputs of the graph.
    pub inputs: Vec<Port>,
    /// The outputs of the graph.
    pub outputs: Vec<Port>,
    /// The number of batch norms that were folded.
    pub folded: usize,
    /// The layers in 8 bits, for an export [in 8 bits](OnnxExport::int8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8>,
}

/// An input or an output of an ONNX graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<PortDim>,
}

/// A dimension of an input or an output of an ONNX graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum PortDim {
    /// This size.
    Fixed(i64),
    /// Any size, under this name.
    Free(String),
}

impl PortDim {
    fn dim(&self) -> Dim<'_> {
        match self {
            PortDim::Fixed(size) => Dim::Fixed(*size),
            PortDim::Free(name) => Dim::Free(name),
        }
    }
}

/// The kind of the network's floats.
fn kind_of(tensors: &[(String, Tensor)]) -> Result<Kind, String> {
    let floats = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
    let mut kinds = tensors.iter().map(|(_, tensor)| tensor.kind());
    match kinds.find(|kind| floats.contains(kind)) {
        Some(kind @ (Kind::Half | Kind::BFloat16)) => Err(format!(
            "its weights are of kind {kind:?}; convert the variable store to `Kind::Float`, and write them with `OnnxExport::half`"
        )),
        kind => Ok(kind.unwrap_or(Kind::Float)),
    }
}

/// Adds the inputs of the graph.
fn set_inputs(lowering: &mut Lowering, program: &Program) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    let suffix = |index: usize| match program.inputs.len() {
        1 => String::new(),
        _ => index.to_string(),
    };
    for (index, &id) in program.inputs.iter().enumerate() {
        let suffix = suffix(index);
        let name = format!("input{suffix}");
        let is_tokens = program.calls().iter().any(|call| {
            call.name == "embedding"
                && matches!(call.arguments.first(), Some(crate::graph::Argument::Value(given)) if *given == id)
        });
        let sizes = program.sizes(id).unwrap_or_default();
        let rank = sizes.len().saturating_sub(1);
        let dims = sizes.into_iter().enumerate().map(|(dim, size)| match size {
            Some(size) => PortDim::Fixed(size),
            None if dim == 0 => PortDim::Free("batch".to_owned()),
            None => PortDim::Free(format!("{}{suffix}", side(dim, rank))),
        });
        let port = Port { name, dims: dims.collect() };
        let (kind, element) =
            if is_tokens { (Kind::Int64, Element::Int) } else { (lowering.kind, Element::Float) };
        let dims: Vec<Dim> = port.dims.iter().map(PortDim::dim).collect();
        let name =
            lowering.builder.input(&port.name, kind, &dims).map_err(|error| error.to_string())?;
        lowering.set(id, Value { name, element });
        ports.push(port);
    }
    Ok(ports)
}

/// The name of a free dimension of an input with this many dimensions behind the batch.
fn side(dim: usize, rank: usize) -> &'static str {
    match (rank, dim) {
        (3, 2) | (4, 3) => "height",
        (3, 3) | (4, 4) => "width",
        (4, 2) => "depth",
        _ => "length",
    }
}

/// Adds the outputs of the graph.
fn set_outputs(lowering: &mut Lowering, program: &Program) -> Result<Vec<Port>, String> {
    let several = program.outputs.len() > 1;
    let outputs = program.outputs.iter().enumerate();
    outputs.map(|(index, &id)| set_output(lowering, program, (index, several), id)).collect()
}

fn set_output(
    lowering: &mut Lowering,
    program: &Program,
    (index, several): (usize, bool),
    id: ValueId,
) -> Result<Port, String> {
    let value = lowering.value(id)?;
    let name = if several { format!("output{index}") } else { "output".to_owned() };
    let sizes = program.sizes(id).unwrap_or_default();
    let dims = sizes.into_iter().enumerate().map(|(dim, size)| match size {
        Some(size) => PortDim::Fixed(size),
        None if dim == 0 => PortDim::Free("batch".to_owned()),
        None => PortDim::Free(format!("{name}_{dim}")),
    });
    let port = Port { dims: dims.collect(), name };
    let kind = match value.element {
        Element::Float => lowering.kind,
        Element::Int => Kind::Int64,
        Element::Bool => Kind::Bool,
    };
    let dims: Vec<Dim> = port.dims.iter().map(PortDim::dim).collect();
    lowering
        .builder
        .output(&port.name, &value.name, kind, &dims)
        .map_err(|error| error.to_string())?;
    Ok(port)
}
