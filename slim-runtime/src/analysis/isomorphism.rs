//! Isomorphism: finds parts of the graph that have the same shape.

use std::collections::{BTreeMap, HashMap};

use crate::analysis::Graph;
use crate::graph::{AxisRole, ChannelId, LayerKind, LayerNode, Operation, Step, ValueId};

/// Whose channels belong to which part: by channel group, the number of its part.
pub(crate) type PartOf = [Option<usize>];

/// The shape of a part of the graph: what happens to its channels, in the order of the forward pass
/// in evaluation mode. Widths, strides and field paths do not belong to it.
#[derive(PartialEq, Eq, Hash, Default)]
struct Shape(Vec<Node>);

/// A step of the forward pass that has channels of a part. Values are known by the position of the
/// node that makes them; a value that no node makes is not given.
#[derive(PartialEq, Eq, Hash)]
enum Node {
    /// An operation, and the values that it takes.
    Operation(&'static str, Vec<usize>),
    /// A layer: its kind, the axes that have channels of the part, and for each tensor of more than
    /// one dimension the sizes that follow no channels, such as the sides of a kernel.
    Layer(LayerKind, Vec<AxisShape>, Vec<Vec<i64>>),
}

/// Name and role of an axis, and the value that it takes.
type AxisShape = (String, AxisRole, Option<usize>);

/// The class of each part: parts have one class if what happens to their channels is the same, but
/// for numbers of channels. Classes are numbered in the order of the first part that has them.
pub(crate) fn classes(graph: &Graph, part_of: &PartOf, parts: usize) -> Vec<usize> {
    let mut known: HashMap<Shape, usize> = HashMap::new();
    let class = |shape| {
        let next = known.len();
        *known.entry(shape).or_insert(next)
    };
    shapes(graph, part_of, parts).into_iter().map(class).collect()
}

fn shapes(graph: &Graph, part_of: &PartOf, parts: usize) -> Vec<Shape> {
    let parts_in = |ids: &[ChannelId]| {
        let mut found: Vec<usize> =
            ids.iter().filter_map(|&id| part_of[graph.channel_group(id)]).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let mut shapes: Vec<Shape> = std::iter::repeat_with(Shape::default).take(parts).collect();
    // By value and part: the position of the node that makes the value.
    let mut made: HashMap<(ValueId, usize), usize> = HashMap::new();
    for step in &graph.steps[..graph.evaluation] {
        match step {
            Step::Operation(operation) => {
                let values = operation.operands.iter().chain([&operation.result]);
                let mut touched: Vec<usize> =
                    values.flat_map(|&value| parts_in(&graph.values[value])).collect();
                touched.sort_unstable();
                touched.dedup();
                for part in touched {
                    let nodes = &mut shapes[part].0;
                    made.insert((operation.result, part), nodes.len());
                    nodes
                        .push(operation_node(operation, |value| made.get(&(value, part)).copied()));
                }
            }
            Step::Layer(index) => {
                let layer = graph.layer(*index);
                let mut axes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for (axis, node) in layer.axes.iter().enumerate() {
                    parts_in(&node.ids)
                        .into_iter()
                        .for_each(|part| axes.entry(part).or_default().push(axis));
                }
                for (part, axes) in axes {
                    let nodes = &mut shapes[part].0;
                    let node = layer_node(layer, &axes, |value| made.get(&(value, part)).copied());
                    for result in layer.results.iter().filter(|result| axes.contains(&result.axis))
                    {
                        made.insert((result.value, part), nodes.len());
                    }
                    nodes.push(node);
                }
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    shapes
}

fn operation_node(operation: &Operation, made: impl Fn(ValueId) -> Option<usize>) -> Node {
    let operands = operation.operands.iter().filter_map(|&value| made(value)).collect();
    Node::Operation(operation.operator.name, operands)
}

fn layer_node(layer: &LayerNode, axes: &[usize], made: impl Fn(ValueId) -> Option<usize>) -> Node {
    let shape = |&axis: &usize| {
        let node = &layer.axes[axis];
        (node.name.to_string(), node.role, made(node.value))
    };
    let fixed = layer.tensors.iter().filter(|tensor| tensor.axes.len() > 1).map(|tensor| {
        let sizes = tensor.tensor.size().into_iter().zip(&tensor.axes);
        sizes.filter(|(_, axis)| axis.is_none()).map(|(size, _)| size).collect()
    });
    Node::Layer(layer.kind.clone(), axes.iter().map(shape).collect(), fixed.collect())
}
