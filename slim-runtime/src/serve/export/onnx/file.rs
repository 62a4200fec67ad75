//! Writes a graph as an ONNX file, tensor by tensor, so that no copy of all weights is made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use tch::{Kind, TchError, Tensor};

use super::builder::Name;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use crate::io::atomic::Draft;
use crate::io::checkpoint::bytes;
use crate::{Error, Result};

/// The version of the operators: the newest in which both ONNX Runtime 1.32 and OpenVINO 2026.4 run
/// every operator of networks. From 25 on, ONNX Runtime has no kernel for `Swish`, and the new
/// operators of these versions are not used here.
const OPSET: i64 = 24;

/// The version of the file format that was released together with operator set 24.
const IR_VERSION: i64 = 12;

/// A message of protobuf, and so a model with its tensors, has at most 2 GiB.
const MOST_BYTES: u64 = i32::MAX as u64;

/// Tensors of fewer bytes stay in the model, so that tools infer shapes without the other file.
const LEAST_EXTERNAL: u64 = 1024;

/// External tensors begin at multiples of this, so that a runtime can map them into memory.
const ALIGNMENT: u64 = 4096;

/// A tensor of the file.
pub(super) struct Initializer {
    pub(super) name: Name,
    pub(super) dims: Vec<i64>,
    /// The kind that is stored.
    pub(super) kind: Kind,
    pub(super) values: Values,
}

pub(super) enum Values {
    /// Values of any kind, strides and device.
    Tensor(Tensor),
    /// Values as they are stored.
    Bytes(Vec<u8>),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of the model and of the external data.
    pub(super) bytes: u64,
    /// The file with the external data.
    pub(super) data: Option<PathBuf>,
}

impl Initializer {
    /// Bytes of the values.
    fn length(&self) -> u64 {
        let elements = self.dims.iter().map(|&size| size as u64).product::<u64>();
        elements * self.kind.elt_size_in_bytes() as u64
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match &self.values {
            Values::Bytes(values) => Ok(Cow::Borrowed(values)),
            Values::Tensor(tensor) => tensor
                .f_to_kind(self.kind)
                .and_then(|stored| bytes(&stored))
                .map(Cow::Owned)
                .map_err(Error::torch(&*self.name)),
        }
    }

    /// The message, without values that are stored inside of it.
    fn message(&self, external: Option<(&str, u64)>) -> Result<TensorProto> {
        let data_type = data_type(self.kind).map_err(Error::torch(&*self.name))?;
        let mut message = TensorProto {
            name: Some(self.name.to_string()),
            dims: self.dims.clone(),
            data_type: Some(data_type as i32),
            ..TensorProto::default()
        };
        if let Some((location, offset)) = external {
            message.data_location = Some(DataLocation::External as i32);
            message.external_data = vec![
                entry("location", location),
                entry("offset", offset.to_string()),
                entry("length", self.length().to_string()),
            ];
        }
        Ok(message)
    }
}

/// ONNX's name of a kind.
///
/// # Errors
/// The kind is neither a float, nor an integer, nor `Bool`.
pub(super) fn data_type(kind: Kind) -> Result<DataType, TchError> {
    Ok(match kind {
        Kind::Float => DataType::Float,
        Kind::Double => DataType::Double,
        Kind::Half => DataType::Float16,
        Kind::BFloat16 => DataType::Bfloat16,
        Kind::Int64 => DataType::Int64,
        Kind::Int => DataType::Int32,
        Kind::Int16 => DataType::Int16,
        Kind::Int8 => DataType::Int8,
        Kind::Uint8 => DataType::Uint8,
        Kind::Bool => DataType::Bool,
        other => return Err(TchError::Kind(format!("ONNX files hold no tensors of {other:?}"))),
    })
}

/// Writes the model to `path`, and large tensors to a file beside it if `external` says so or the
/// model would be too large for one file.
///
/// Both are complete on the disk before any file changes. A model without external data then
/// replaces the earlier one in one step. With external data, the earlier model is removed first,
/// then come the data and the new model: an interruption may leave no model, but never one that
/// reads data of another.
pub(super) fn write(
    path: &Path,
    graph: GraphProto,
    initializers: &[Initializer],
    metadata: &BTreeMap<String, String>,
    external: bool,
) -> Result<Written> {
    let head = head(metadata).encode_to_vec();
    let graph = graph.encode_to_vec();
    let mut model = Model::new(&head, &graph, initializers, None)?;
    let data_path = beside(path);
    if external || model.length() > MOST_BYTES {
        model = Model::new(&head, &graph, initializers, Some(location(&data_path)?))?;
    }
    let file = Output::new(path)?;
    let (file, model_bytes) = file.fill(|sink| model.write(sink))?;
    if model.external.is_empty() {
        file.publish()?;
        return Ok(Written { bytes: model_bytes, data: None });
    }
    let (data, data_bytes) = Output::new(&data_path)?.fill(|sink| model.write_data(sink))?;
    remove(path).map_err(cannot_write(path))?;
    data.publish()?;
    file.publish()?;
    Ok(Written { bytes: model_bytes + data_bytes, data: Some(data_path) })
}

/// The path of external data: `net.onnx.data`.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".data");
    name.into()
}

/// The name by which a model refers to its external data.
fn location(data: &Path) -> Result<&str> {
    let name = data.file_name().and_then(|name| name.to_str());
    let no_text = || io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8");
    name.ok_or_else(no_text).map_err(cannot_write(data))
}

/// Removes a file, if it exists, also where a link leads to it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::canonicalize(path).and_then(fs::remove_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Io { file: path.to_owned(), action: "write", cause }
}

/// A file that is not published yet.
struct Output<'p> {
    path: &'p Path,
    draft: Draft,
}

impl<'p> Output<'p> {
    fn new(path: &'p Path) -> Result<Self> {
        let draft = Draft::new(path).map_err(cannot_write(path))?;
        Ok(Output { path, draft })
    }

    /// Writes the content to the disk, and counts its bytes.
    fn fill(self, content: impl FnOnce(&mut Sink) -> Result<()>) -> Result<(Self, u64)> {
        let file = BufWriter::new(self.draft.file());
        let mut sink = Sink { file, path: self.path, bytes: 0 };
        content(&mut sink)?;
        let bytes = sink.bytes;
        sink.file.flush().map_err(cannot_write(self.path))?;
        drop(sink);
        self.draft.file().sync_all().map_err(cannot_write(self.path))?;
        Ok((self, bytes))
    }

    fn publish(self) -> Result<()> {
        self.draft.publish().map_err(cannot_write(self.path))
    }
}

/// The content of a file while it is written.
struct Sink<'f> {
    file: BufWriter<&'f File>,
    path: &'f Path,
    bytes: u64,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(cannot_write(self.path))
    }

    /// Begins a field that has a length: a message, or bytes.
    fn field(&mut self, tag: u8, length: u64) -> Result<()> {
        self.put(&key(tag, length))
    }
}

/// How a field of `length` bytes begins.
fn key(tag: u8, length: u64) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;
    let mut key = vec![tag << 3 | LENGTH_DELIMITED];
    prost::encoding::encode_varint(length, &mut key);
    key
}

fn field_length(length: u64) -> u64 {
    key(0, length).len() as u64 + length
}

/// The model without its graph.
fn head(metadata: &BTreeMap<String, String>) -> ModelProto {
    ModelProto {
        ir_version: Some(IR_VERSION),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        producer_name: Some("slim".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        metadata_props: metadata.iter().map(|(key, value)| entry(key, value.as_str())).collect(),
        ..ModelProto::default()
    }
}

fn entry(key: &str, value: impl Into<String>) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.into()) }
}

/// A model whose messages are encoded up to the values of its tensors.
struct Model<'m> {
    head: &'m [u8],
    graph: &'m [u8],
    /// Each tensor's message without values, and the tensor if these are stored inside.
    tensors: Vec<(Vec<u8>, Option<&'m Initializer>)>,
    /// The tensors whose values are in the other file, and their offsets.
    external: Vec<(&'m Initializer, u64)>,
}

impl<'m> Model<'m> {
    /// Puts the values of large tensors into the file `location`, if there is one.
    fn new(
        head: &'m [u8],
        graph: &'m [u8],
        initializers: &'m [Initializer],
        location: Option<&str>,
    ) -> Result<Self> {
        let mut model = Model { head, graph, tensors: Vec::new(), external: Vec::new() };
        let mut end = 0_u64;
        for initializer in initializers {
            let length = initializer.length();
            let place = location.filter(|_| length >= LEAST_EXTERNAL).map(|location| {
                let offset = end.next_multiple_of(ALIGNMENT);
                end = offset + length;
                model.external.push((initializer, offset));
                (location, offset)
            });
            let message = initializer.message(place)?.encode_to_vec();
            model.tensors.push((message, place.is_none().then_some(initializer)));
        }
        Ok(model)
    }

    fn length(&self) -> u64 {
        self.head.len() as u64 + field_length(self.graph_length())
    }

    fn graph_length(&self) -> u64 {
        let tensors = self.tensors.iter().map(|tensor| field_length(tensor_length(tensor)));
        self.graph.len() as u64 + tensors.sum::<u64>()
    }

    /// Writes the encoding of the whole message. The fields of a message may be in any order, so
    /// the long ones come last.
    fn write(&self, sink: &mut Sink) -> Result<()> {
        sink.put(self.head)?;
        sink.field(7, self.graph_length())?; // ModelProto.graph
        sink.put(self.graph)?;
        for tensor in &self.tensors {
            sink.field(5, tensor_length(tensor))?; // GraphProto.initializer
            let (message, inside) = tensor;
            sink.put(message)?;
            if let Some(initializer) = inside {
                sink.field(9, initializer.length())?; // TensorProto.raw_data
                sink.put(&initializer.bytes()?)?;
            }
        }
        Ok(())
    }

    /// Writes the values of the external tensors.
    fn write_data(&self, sink: &mut Sink) -> Result<()> {
        for (initializer, offset) in &self.external {
            sink.put(&vec![0; (offset - sink.bytes) as usize])?;
            sink.put(&initializer.bytes()?)?;
        }
        Ok(())
    }
}

/// Bytes of a tensor's whole message.
fn tensor_length((message, inside): &(Vec<u8>, Option<&Initializer>)) -> u64 {
    let values = inside.map_or(0, |initializer| field_length(initializer.length()));
    message.len() as u64 + values
}
