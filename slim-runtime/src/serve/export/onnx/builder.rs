//! Builds the graph of an ONNX file: nodes, weights and constants under unique names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use tch::{Kind, TchError, Tensor};

use super::attribute;
use super::file::{self, Initializer, Values, Written};
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, GraphProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::Result;
use crate::graph::{Memory, memory};

/// The name of a value in an ONNX graph.
pub(super) type Name = Rc<str>;

/// How weights are stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FileOptions {
    /// Stores weights of two or more dimensions in half precision, each with a `Cast` to its own
    /// kind behind it. A weight with values beyond the range of half precision is stored as it is.
    pub(super) half: bool,
    /// Stores large tensors in a file beside the model, whatever the size of the model.
    pub(super) external: bool,
}

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dim<'n> {
    Fixed(i64),
    /// Any size. Dimensions with the same name have the same size.
    Free(&'n str),
}

/// A graph under construction. Nodes are in the order in which they were added, so each must be
/// added after the nodes that compute its inputs.
pub(super) struct Builder {
    options: FileOptions,
    kind: Kind,
    scope: String,
    names: Names,
    nodes: Vec<NodeProto>,
    initializers: Vec<Initializer>,
    inputs: Vec<ValueInfoProto>,
    /// Each output, and the value that it takes.
    outputs: Vec<(ValueInfoProto, Name)>,
    weights: HashMap<(Memory, Kind), Name>,
    constants: HashMap<(Kind, Vec<i64>, Vec<u8>), Name>,
}

impl Builder {
    /// An empty graph of a network that computes in `kind`.
    pub(super) fn new(options: &FileOptions, kind: Kind) -> Self {
        Builder {
            options: *options,
            kind,
            scope: "/".to_owned(),
            names: Names::default(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights: HashMap::new(),
            constants: HashMap::new(),
        }
    }

    /// Sets the field path in the names of the nodes that are added from here on:
    /// `/layer2.0/Conv_1`.
    pub(super) fn scope(&mut self, path: &str) {
        self.scope = if path.is_empty() { "/".to_owned() } else { format!("/{path}/") };
    }

    /// The value of a weight, stored under `name`, or under `name_1` if that is taken.
    ///
    /// A tensor that was added before has the name that it got then. The values are read when the
    /// file is written.
    ///
    /// # Errors
    /// A kind that ONNX does not have; errors of libtorch.
    pub(super) fn weight(&mut self, name: &str, tensor: &Tensor) -> Result<Name, TchError> {
        let kind = tensor.f_kind()?;
        file::data_type(kind)?;
        let key = memory(tensor).map(|memory| (memory, kind));
        if let Some(known) = key.as_ref().and_then(|key| self.weights.get(key)) {
            return Ok(known.clone());
        }
        // Held until the file is written, so that no other tensor gets its memory meanwhile.
        let held = match tensor.is_sparse() || tensor.is_mkldnn() {
            true => tensor.f_to_dense(kind, false)?,
            false => tensor.f_detach()?,
        };
        let half = self.options.half && held.dim() >= 2 && fits_half(&held, kind)?;
        let stored = if half { Kind::Half } else { kind };
        let initializer = self.initializer(name, held.size(), stored, Values::Tensor(held));
        let name = match half {
            true => self.cast(&initializer, kind)?,
            false => initializer,
        };
        self.weights.extend(key.map(|key| (key, name.clone())));
        Ok(name)
    }

    /// A list of integers as a value: the shape of a `Reshape`, the axes of a `ReduceMean`.
    pub(super) fn ints(&mut self, values: &[i64]) -> Name {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(vec![values.len() as i64], Kind::Int64, bytes)
    }

    /// An integer as a value without dimensions.
    pub(super) fn int(&mut self, value: i64) -> Name {
        self.constant(Vec::new(), Kind::Int64, value.to_le_bytes().to_vec())
    }

    /// An unsigned 8-bit integer as a value without dimensions.
    pub(super) fn byte(&mut self, value: u8) -> Name {
        self.constant(Vec::new(), Kind::Uint8, vec![value])
    }

    /// A number as a value without dimensions: in double precision for a network that computes in
    /// it, else in single precision.
    pub(super) fn float(&mut self, value: f64) -> Name {
        match self.kind {
            Kind::Double => self.constant(Vec::new(), Kind::Double, value.to_le_bytes().to_vec()),
            _ => self.constant(Vec::new(), Kind::Float, (value as f32).to_le_bytes().to_vec()),
        }
    }

    /// Adds a node with one output, and returns that. The empty name stands for an optional input
    /// that is absent.
    pub(super) fn node(
        &mut self,
        op: &'static str,
        inputs: &[&Name],
        attributes: Vec<AttributeProto>,
    ) -> Name {
        let name = self.names.unique(&format!("{}{op}", self.scope));
        self.push(&name, op, inputs, slice_of(&name), attributes);
        name
    }

    /// Adds a node with several outputs, and returns these.
    pub(super) fn nodes(
        &mut self,
        op: &'static str,
        inputs: &[&Name],
        outputs: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<Name> {
        let name = self.names.unique(&format!("{}{op}", self.scope));
        let outputs: Vec<_> = (0..outputs)
            .map(|output| self.names.unique(&format!("{name}_output_{output}")))
            .collect();
        self.push(&name, op, inputs, &outputs, attributes);
        outputs
    }

    /// Adds an input of the graph.
    ///
    /// # Errors
    /// A kind that ONNX does not have.
    pub(super) fn input(&mut self, name: &str, kind: Kind, dims: &[Dim]) -> Result<Name, TchError> {
        let name = self.names.unique(name);
        self.inputs.push(value_info(&name, kind, dims)?);
        Ok(name)
    }

    /// Adds an output of the graph. It gets this very name: any other value of the name, except for
    /// inputs and outputs, is renamed.
    ///
    /// # Errors
    /// A kind that ONNX does not have.
    pub(super) fn output(
        &mut self,
        name: &str,
        value: &Name,
        kind: Kind,
        dims: &[Dim],
    ) -> Result<(), TchError> {
        self.outputs.push((value_info(name, kind, dims)?, value.clone()));
        Ok(())
    }

    /// Writes the file, and the one with its external data if there is one. `metadata` has entries
    /// of the model's `metadata_props`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Torch`](crate::Error::Torch). What was at the path
    /// before is still there, unless external data fails to be published.
    pub(super) fn finish(
        mut self,
        path: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Written> {
        let output = self.connect_outputs();
        let graph = GraphProto {
            name: Some("network".to_owned()),
            node: self.nodes,
            input: self.inputs,
            output,
            ..GraphProto::default()
        };
        file::write(path, graph, &self.initializers, metadata, self.options.external)
    }

    fn push(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&Name],
        outputs: &[Name],
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            name: Some(name.to_owned()),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&input| input.to_string()).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            attribute,
            ..NodeProto::default()
        });
    }

    fn cast(&mut self, value: &Name, kind: Kind) -> Result<Name, TchError> {
        let name = self.names.unique(&format!("/{value}/Cast"));
        let to = attribute::int("to", i64::from(file::data_type(kind)? as i32));
        self.push(&name, "Cast", &[value], slice_of(&name), vec![to]);
        Ok(name)
    }

    fn constant(&mut self, dims: Vec<i64>, kind: Kind, bytes: Vec<u8>) -> Name {
        let key = (kind, dims, bytes);
        if let Some(known) = self.constants.get(&key) {
            return known.clone();
        }
        let name = self.initializer("/constant", key.1.clone(), kind, Values::Bytes(key.2.clone()));
        self.constants.insert(key, name.clone());
        name
    }

    fn initializer(&mut self, name: &str, dims: Vec<i64>, kind: Kind, values: Values) -> Name {
        let name = self.names.unique(name);
        self.initializers.push(Initializer { name: name.clone(), dims, kind, values });
        name
    }

    /// Gives the outputs their values: renames what a node computes, where nothing else speaks
    /// against it, and adds an `Identity` for inputs, weights and values that are output twice.
    fn connect_outputs(&mut self) -> Vec<ValueInfoProto> {
        let inputs: HashSet<&str> = self.inputs.iter().map(ValueInfoProto::name).collect();
        let computed: HashSet<&str> =
            self.nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut renamed: HashMap<Name, Name> = HashMap::new();
        let mut identities = Vec::new();
        let mut outputs: Vec<ValueInfoProto> = Vec::new();
        for (mut info, value) in std::mem::take(&mut self.outputs) {
            let wanted: Name = info.name().into();
            let is_public =
                inputs.contains(&*wanted) || outputs.iter().any(|output| output.name() == &*wanted);
            let name = if is_public { self.names.unique(&wanted) } else { wanted };
            info.name = Some(name.to_string());
            outputs.push(info);
            if computed.contains(&*value) && !renamed.contains_key(&value) {
                renamed.insert(value, name);
            } else {
                identities.push((value, name));
            }
        }
        // Whatever else has the name of an output.
        for output in &outputs {
            let taken: Name = output.name().into();
            if self.names.has(&taken) && !renamed.contains_key(&taken) {
                let other = self.names.unique(&taken);
                renamed.insert(taken, other);
            }
        }
        self.rename(&renamed);
        for (value, name) in identities {
            let value = renamed.get(&value).cloned().unwrap_or(value);
            let node = self.names.unique("/Identity");
            self.push(&node, "Identity", &[&value], slice_of(&name), Vec::new());
        }
        outputs
    }

    fn rename(&mut self, renamed: &HashMap<Name, Name>) {
        let values =
            self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        for value in values {
            if let Some(name) = renamed.get(value.as_str()) {
                *value = name.to_string();
            }
        }
        for initializer in &mut self.initializers {
            if let Some(name) = renamed.get(&initializer.name) {
                initializer.name = name.clone();
            }
        }
    }
}

/// The names of nodes and values so far.
#[derive(Default)]
struct Names {
    taken: HashSet<Name>,
    /// The number behind the last name that was made from a name.
    last: HashMap<String, usize>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// `name` if it is free, else `name_1`, `name_2`, …
    fn unique(&mut self, name: &str) -> Name {
        // The empty name stands for an absent input.
        let mut free: Name = if name.is_empty() { "value".into() } else { name.into() };
        if self.has(&free) {
            let last = self.last.entry(name.to_owned()).or_default();
            while self.taken.contains(&free) {
                *last += 1;
                free = format!("{name}_{last}").into();
            }
        }
        self.taken.insert(free.clone());
        free
    }
}

fn slice_of(name: &Name) -> &[Name] {
    std::slice::from_ref(name)
}

/// Whether half precision has all values of a floating-point tensor, up to rounding.
fn fits_half(tensor: &Tensor, kind: Kind) -> Result<bool, TchError> {
    if !matches!(kind, Kind::Float | Kind::Double) || tensor.numel() == 0 {
        return Ok(false);
    }
    let overflows =
        tensor.f_to_kind(Kind::Half)?.f_isinf()?.f_not_equal_tensor(&tensor.f_isinf()?)?;
    Ok(i64::try_from(&overflows.f_any()?)? == 0)
}

fn value_info(name: &str, kind: Kind, dims: &[Dim]) -> Result<ValueInfoProto, TchError> {
    let dim = dims
        .iter()
        .map(|dim| {
            let value = match *dim {
                Dim::Fixed(size) => dimension::Value::DimValue(size),
                Dim::Free(name) => dimension::Value::DimParam(name.to_owned()),
            };
            Dimension { value: Some(value), ..Dimension::default() }
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: Some(file::data_type(kind)? as i32),
        shape: Some(TensorShapeProto { dim }),
    };
    let r#type =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    Ok(ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(r#type),
        ..ValueInfoProto::default()
    })
}
