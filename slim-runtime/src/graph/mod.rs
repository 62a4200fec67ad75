//! The graph of a network: values, the operators and layers between them, and the symbolic pass
//! that records it. What follows from a graph is in `analysis`.

mod activation;
mod asked;
pub(crate) mod fields;
mod groups;
mod keep;
mod kind;
mod layer;
mod node;
mod operations;
mod operator;
pub(crate) mod parts;
pub(crate) mod shape;
mod stored;
mod tracer;
mod value;
mod visitor;

use std::collections::HashSet;
use std::panic::Location;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

pub use activation::Activation;
pub(crate) use asked::Asked;
pub use keep::KeepList;
pub use kind::{KeepReason, LayerKind, Role};
pub use layer::{Axis, LayerTracer};
pub(crate) use node::{
    AxisNode, AxisRole, BiasExactness, LayerGate, LayerHold, LayerNode, LayerResult, Maker,
    MixNode, Ranked, ReadNode, State, TensorNode,
};
pub(crate) use operations::shuffled;
pub(crate) use operator::{Commutes, Effect, Gate, Operator, Sources, Ties};
pub use parts::PartVisitor;
use shape::Decisions;
pub(crate) use tracer::Probe;
pub use tracer::Tracer;
pub use value::Flow;
pub(crate) use value::{ChannelId, ElementCount, FlowKind, Form, Value, ValueId};
pub use visitor::LayerVisitor;
pub(crate) use visitor::{LayerMut, LayerSink, NormMut, WeightsMut, visit_layers, visit_with};

/// What a symbolic forward pass leaves behind.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) layers: Vec<LayerNode>,
    /// What happens, in order: a value is made before it is used.
    pub(crate) steps: Vec<Step>,
    /// The channels of each value.
    pub(crate) values: Vec<Rc<[ChannelId]>>,
    pub(crate) outputs: Vec<ValueId>,
    /// How many of the steps are those of the run for evaluation, which come first.
    pub(crate) evaluation: usize,
    /// The number of channel ids.
    channels: ChannelId,
    /// What a `forward` asked that depends on sizes.
    pub(crate) asked: Asked,
    /// Where it asked for sizes that no view uses: file, line and column.
    pub(crate) size_questions: Vec<String>,
    /// Whether the shapes of all inputs are known.
    pub(crate) knows_shapes: bool,
    /// Layers that a `forward` has not applied, by field path.
    pub(crate) unused: Vec<String>,
    /// The shapes of its inputs, where a sample says them.
    pub(crate) shapes: Option<Vec<Vec<i64>>>,
    /// Whether some part of it is a `forward` that was read.
    pub(crate) is_forward: bool,
    /// What was decided of numbers that a `forward` gave.
    pub(crate) decisions: Decisions,
    /// Layers of a second run, in training, that stand among the others too. Steps count them
    /// behind those.
    pub(crate) hidden: Vec<LayerNode>,
    /// Types whose wiring is declared by their fields.
    pub(crate) declared: Vec<&'static str>,
    /// Field path of the first part that is deployed, and so cannot be changed any more.
    pub(crate) deployed: Option<String>,
}

/// One thing that happens in a forward pass.
pub(crate) enum Step {
    Operation(Operation),
    /// A layer is applied: its position in [`Recording::layers`].
    Layer(usize),
    /// The channels of a value are summed over by the part at this path, which would miss those
    /// that are not gated.
    Sum(ValueId, String),
    /// These channels cannot be removed.
    Hold(Rc<[ChannelId]>, KeepReason),
}

/// An operation between layers.
pub(crate) struct Operation {
    pub(crate) operator: Operator,
    pub(crate) operands: Vec<ValueId>,
    pub(crate) result: ValueId,
    /// Numbers that it is given, such as the factor of a product: for comparisons of graphs.
    pub(crate) numbers: Vec<f64>,
    /// Sizes that it is given, as of what it sums over, and that are none of channels: for the
    /// check after surgery.
    pub(crate) sizes: Box<[i64]>,
    /// Sizes of its result that are none of channels: for the check after surgery.
    pub(crate) result_sizes: Box<[i64]>,
    /// The elements of a constant, as bits: for the check after surgery.
    pub(crate) contents: Box<[u64]>,
    /// Field path of the part whose forward pass it belongs to.
    pub(crate) path: String,
    /// Where in a `forward` that was read.
    pub(crate) at: Option<&'static Location<'static>>,
}

impl Operation {
    /// Whether both are given the same numbers.
    pub(crate) fn has_numbers_of(&self, other: &Operation) -> bool {
        let bits = |operation: &Operation| -> Vec<u64> {
            operation.numbers.iter().map(|number| number.to_bits()).collect()
        };
        bits(self) == bits(other)
    }
}

/// Sizes and strides.
pub(crate) type Layout = (Vec<i64>, Vec<i64>);

/// Where a tensor's values are and how they lie.
pub(crate) type Memory = (usize, Layout);

/// Storage identity: two handles of one tensor have the same. `None` if the tensor is not
/// allocated.
pub(crate) fn memory(tensor: &Tensor) -> Option<Memory> {
    let size = tensor.size();
    let none = tensor.is_sparse() || tensor.is_mkldnn() || size.contains(&0);
    (!none).then(|| (tensor.data_ptr() as usize, (size, tensor.stride())))
}

impl Recording {
    /// The number of channel ids.
    pub(crate) fn channels(&self) -> usize {
        self.channels as usize
    }

    /// A layer, by the number that a step has for it.
    pub(crate) fn layer(&self, index: usize) -> &LayerNode {
        self.layers.get(index).unwrap_or_else(|| &self.hidden[index - self.layers.len()])
    }

    /// `layer2.0.conv1.weight`
    pub(crate) fn tensor_path(&self, (layer, tensor): (usize, usize)) -> String {
        format!("{}.{}", self.layers[layer].path, self.layers[layer].tensors[tensor].name)
    }

    /// Kind and device of the first tensor of floats.
    pub(crate) fn options(&self) -> Option<(Kind, Device)> {
        let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
        let mut options = self.tensors().map(|tensor| (tensor.kind(), tensor.device()));
        options.find(|(kind, _)| kinds.contains(kind))
    }

    /// The tensors of all layers; one that several layers share comes several times.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|layer| &layer.tensors).map(|bound| &bound.tensor)
    }

    /// Every scale that ranks channels, once, however many layers share it.
    pub(crate) fn scales(&self) -> impl Iterator<Item = (&LayerNode, &Ranked)> {
        let ranked = self.layers.iter().filter_map(|layer| Some((layer, layer.ranked.as_ref()?)));
        ranked.filter(|(_, ranked)| ranked.is_scale && ranked.first)
    }

    /// Makes `count` new channels.
    fn fresh(&mut self, count: usize) -> Rc<[ChannelId]> {
        // A network of 2³² channels does not fit any memory, so the cast is exact.
        let start = self.channels;
        self.channels += count as ChannelId;
        (start..self.channels).collect()
    }

    /// Makes a new value.
    fn value(&mut self, ids: Rc<[ChannelId]>) -> ValueId {
        self.values.push(ids);
        self.values.len() - 1
    }

    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A tensor that several layers share ranks, and counts, once.
    fn mark_first(&mut self) {
        let mut seen = HashSet::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if let Some(ranked) = &mut layer.ranked {
                let own = (index, ranked.tensor);
                ranked.first = seen.insert(layer.tensors[ranked.tensor].tied.unwrap_or(own));
            }
        }
    }
}
