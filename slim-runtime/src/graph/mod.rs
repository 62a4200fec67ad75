//! The graph of a network: values, the operators and layers between them, and the symbolic pass
//! that records it. Passes over a graph are in `analysis`.

mod activation;
mod asked;
mod calls;
pub(crate) mod fields;
mod groups;
mod keep;
mod kind;
mod layer;
mod node;
mod operations;
mod operator;
pub(crate) mod parts;
mod record;
mod results;
pub(crate) mod shape;
mod stored;
mod tracer;
mod value;
pub(crate) mod view;
mod visitor;

use std::collections::HashSet;
use std::panic::Location;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

pub use activation::Activation;
pub(crate) use asked::Asked;
pub(crate) use calls::{Argument, Call, Calls, arguments};
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
pub use tracer::Tracer;
pub(crate) use tracer::{Probe, UsedInput};
pub use value::Flow;
pub(crate) use value::{ChannelId, ElementCount, FlowKind, Form, Value, ValueId};
use view::Decisions;
pub use visitor::LayerVisitor;
pub(crate) use visitor::{LayerMut, LayerSink, NormMut, WeightsMut, visit_layers, visit_with};

/// The graph that a symbolic forward pass records.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) layers: Vec<LayerNode>,
    /// Operations, layers and holds, in the order of the forward pass.
    pub(crate) steps: Vec<Step>,
    /// The channels of each value.
    pub(crate) values: Vec<Rc<[ChannelId]>>,
    pub(crate) outputs: Vec<ValueId>,
    /// Number of steps of the run in evaluation mode, which come first.
    pub(crate) evaluation: usize,
    /// Number of channel ids.
    channels: ChannelId,
    /// The questions of a `forward` whose answers depend on sizes.
    pub(crate) asked: Asked,
    /// Where `forward` asked for sizes and passed none to an operation: file, line and column.
    pub(crate) size_questions: Vec<String>,
    /// Whether the shapes of all inputs are known.
    pub(crate) knows_shapes: bool,
    /// Field paths of layers that no `forward` applied.
    pub(crate) unused: Vec<String>,
    /// The shapes of the model's inputs, where a sample gives them.
    pub(crate) shapes: Option<Vec<Vec<i64>>>,
    /// Whether the wiring of some part is read from its `forward`.
    pub(crate) is_forward: bool,
    /// How numbers that a `forward` passed to operations were understood.
    pub(crate) decisions: Decisions,
    /// Layers of a second run, in training mode, that are among `layers` too. Steps number them
    /// after those in `layers`.
    pub(crate) hidden: Vec<LayerNode>,
    /// Types whose wiring is declared by their fields.
    pub(crate) declared: Vec<&'static str>,
    /// Field path of the first deployed part: such a part cannot be changed any more.
    pub(crate) deployed: Option<String>,
}

/// One step of a forward pass.
pub(crate) enum Step {
    Operation(Operation),
    /// A layer is applied: its position in [`Recording::layers`].
    Layer(usize),
    /// The part at this path sums over the channels of a value. Channels that are not gated must
    /// stay, because removing them would change the sum.
    Sum(ValueId, String),
    /// These channels cannot be removed.
    Hold(Rc<[ChannelId]>, KeepReason),
}

/// An operation between layers.
pub(crate) struct Operation {
    pub(crate) operator: Operator,
    pub(crate) operands: Vec<ValueId>,
    pub(crate) result: ValueId,
    /// Numbers that the operation takes, such as the factor of a product: for comparisons of
    /// graphs.
    pub(crate) numbers: Vec<f64>,
    /// Sizes that the operation takes, such as the size of a dimension that it sums over, without
    /// numbers of channels: for the check after surgery.
    pub(crate) sizes: Box<[i64]>,
    /// Sizes of the result, without numbers of channels: for the check after surgery.
    pub(crate) result_sizes: Box<[i64]>,
    /// The elements of a constant, as bits: for the check after surgery.
    pub(crate) contents: Box<[u64]>,
    /// Field path of the part whose forward pass contains the operation.
    pub(crate) path: String,
    /// Source position in a `forward` that is read.
    pub(crate) at: Option<&'static Location<'static>>,
}

impl Operation {
    /// Whether both operations take the same numbers.
    pub(crate) fn has_numbers_of(&self, other: &Operation) -> bool {
        let bits = |operation: &Operation| -> Vec<u64> {
            operation.numbers.iter().map(|number| number.to_bits()).collect()
        };
        bits(self) == bits(other)
    }
}

/// Sizes and strides.
pub(crate) type Layout = (Vec<i64>, Vec<i64>);

/// Address of a tensor's first value, and how the values are laid out.
pub(crate) type Memory = (usize, Layout);

/// Storage identity, equal for two handles of one tensor. `None` if the tensor is not allocated.
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

    /// A layer, by its number in [`Step::Layer`].
    pub(crate) fn layer(&self, index: usize) -> &LayerNode {
        self.layers.get(index).unwrap_or_else(|| &self.hidden[index - self.layers.len()])
    }

    /// Field path of a tensor: `layer2.0.conv1.weight`.
    pub(crate) fn tensor_path(&self, (layer, tensor): (usize, usize)) -> String {
        format!("{}.{}", self.layers[layer].path, self.layers[layer].tensors[tensor].name)
    }

    /// Kind and device of the first floating-point tensor.
    pub(crate) fn options(&self) -> Option<(Kind, Device)> {
        let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
        let mut options = self.tensors().map(|tensor| (tensor.kind(), tensor.device()));
        options.find(|(kind, _)| kinds.contains(kind))
    }

    /// The tensors of all layers. A tensor that several layers share is repeated.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|layer| &layer.tensors).map(|bound| &bound.tensor)
    }

    /// The scales that rank channels. A scale that several layers share is returned once.
    pub(crate) fn scales(&self) -> impl Iterator<Item = (&LayerNode, &Ranked)> {
        let ranked = self.layers.iter().filter_map(|layer| Some((layer, layer.ranked.as_ref()?)));
        ranked.filter(|(_, ranked)| ranked.is_scale && ranked.first)
    }

    /// Makes `count` new channels.
    fn fresh(&mut self, count: usize) -> Rc<[ChannelId]> {
        // A network of 2³² channels does not fit into memory, so the cast is exact.
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

    /// Marks the first layer that each tensor ranks, so that a shared tensor ranks and counts once.
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
