//! Producers: finds which layers the channels of each value come from.

use std::rc::Rc;

use crate::graph::{AxisRole, LayerNode, Operation, Recording, Sources, Step};

/// By channel of a value: the channels of layers that it comes from, ascending. Several for a sum,
/// none for an input of the model.
#[derive(Debug, Clone)]
pub(crate) struct Producers(Rc<[Rc<[Producer]>]>);

/// A channel that a layer outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Producer {
    /// Position of the layer in the recording.
    pub(crate) layer: usize,
    /// The axis of the layer.
    pub(crate) axis: usize,
    /// The position of the channel on the axis.
    pub(crate) channel: usize,
}

/// The producers of each value of a graph. `produces` says of an axis of a layer whether the layer
/// is the producer of its channels; if not, those of the channels that the axis follows are.
pub(crate) fn producers(
    recording: &Recording,
    produces: impl Fn(&LayerNode, usize) -> bool,
) -> Vec<Producers> {
    let mut of = vec![Producers(Rc::new([])); recording.values.len()];
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => of[operation.result] = result(recording, &of, operation),
            Step::Layer(index) => {
                let layer = recording.layer(*index);
                for result in &layer.results {
                    let axis = &layer.axes[result.axis];
                    let passes = axis.role == AxisRole::Followed && !produces(layer, result.axis);
                    of[result.value] = if passes {
                        of[axis.value].clone()
                    } else {
                        Producers::made(*index, result.axis, axis.ids.len())
                    };
                }
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    of
}

fn result(recording: &Recording, of: &[Producers], operation: &Operation) -> Producers {
    let operand = |index: usize| &of[operation.operands[index]];
    let join = |a: Producers, b: &Producers| {
        Producers(a.0.iter().zip(b.0.iter()).map(|(a, b)| union([a, b])).collect())
    };
    match &operation.operator.sources {
        Sources::New => Producers::none(recording.values[operation.result].len()),
        Sources::Same => operand(0).clone(),
        Sources::Zip => {
            (1..operation.operands.len()).fold(operand(0).clone(), |a, b| join(a, operand(b)))
        }
        Sources::Concat => {
            let all = 0..operation.operands.len();
            Producers(all.flat_map(|index| operand(index).0.iter().cloned()).collect())
        }
        Sources::Select(positions) => {
            // The layer makes this value in a later step, so its producers are not known yet.
            let from = |&at: &u32| operand(0).0.get(at as usize).map(Rc::clone);
            Producers(positions.iter().filter_map(from).collect())
        }
        Sources::Blocks(size) => Producers(operand(0).0.chunks(*size).map(union).collect()),
        Sources::Broadcast => {
            let one = &operand(1).0[0];
            Producers(operand(0).0.iter().map(|wide| union([wide, one])).collect())
        }
    }
}

impl Producers {
    fn none(width: usize) -> Self {
        Self(std::iter::repeat_n(Rc::from([]), width).collect())
    }

    fn made(layer: usize, axis: usize, width: usize) -> Self {
        Self((0..width).map(|channel| Rc::from([Producer { layer, axis, channel }])).collect())
    }

    /// The channels of layers that each channel comes from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[Producer]> {
        self.0.iter().map(Rc::as_ref)
    }
}

fn union<'a>(sets: impl IntoIterator<Item = &'a Rc<[Producer]>>) -> Rc<[Producer]> {
    let mut all: Vec<Producer> = sets.into_iter().flat_map(|set| set.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}
