//! Folding: finds the batch norms whose work a neighbour could do: the layer in front, where the
//! batch norm alone reads its output, or the layer behind, where that alone reads the batch norm.

use std::collections::{HashMap, HashSet};

use crate::graph::{
    Commutes, Effect, LayerKind, LayerNode, MixNode, Operation, ReadNode, Recording, Sources, Step,
    ValueId,
};

/// The neighbours of each layer, by position in [`Recording::layers`].
pub(crate) struct Neighbours {
    /// Of a batch norm: the layer whose whole output it receives. Only operations that commute with
    /// a scale and a shift, such as pools, may be in between.
    pub(crate) behind: Vec<Option<usize>>,
    /// The batch norm that reads the layer's output, if nothing else reads it. Only operations that
    /// commute with a scale and a shift, such as pools, may be in between.
    pub(crate) norm: Vec<Option<usize>>,
    /// Whether a max-pool is between the layer and one of its readers.
    pub(crate) maximum: Vec<bool>,
}

/// Finds, for each batch norm, the layer that it directly follows.
pub(crate) fn neighbours(recording: &Recording) -> Neighbours {
    let count = recording.layers.len() + recording.hidden.len();
    let mut found = Neighbours {
        behind: vec![None; count],
        norm: vec![None; count],
        maximum: vec![false; count],
    };
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    // By value: the layer whose whole output it is, behind nothing but operations that commute with
    // a scale and a shift.
    let mut whole: HashMap<ValueId, usize> = HashMap::new();
    recording.outputs.iter().for_each(|&value| *uses.entry(value).or_default() += 1);
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => {
                operation.operands.iter().for_each(|&value| *uses.entry(value).or_default() += 1);
                let origin = operation.operands.first().and_then(|value| whole.get(value).copied());
                let (Some(origin), true) = (origin, operation.operator.commutes != Commutes::No)
                else {
                    continue;
                };
                found.maximum[origin] |= operation.operator.commutes == Commutes::Increasing;
                whole.insert(operation.result, origin);
            }
            Step::Layer(index) => {
                let layer = recording.layer(*index);
                layer.arrivals.iter().for_each(|&value| *uses.entry(value).or_default() += 1);
                if layer.kind == LayerKind::BatchNorm {
                    let arrival = layer.arrivals.first();
                    found.behind[*index] = arrival.and_then(|value| whole.get(value).copied());
                }
                let outputs = layer.results.iter().filter(|result| result.whole);
                whole.extend(outputs.map(|result| (result.value, *index)));
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    // A layer whose output has another reader, before or after such an operation, has no batch norm
    // to itself.
    let mut shared = vec![false; count];
    whole.iter().for_each(|(value, &layer)| shared[layer] |= uses.get(value) != Some(&1));
    for (index, behind) in found.behind.iter().enumerate() {
        if let Some(behind) = behind.filter(|&behind| !shared[behind]) {
            found.norm[behind] = Some(index);
        }
    }
    found
}

/// The layer behind a batch norm, which alone reads its output and mixes the channels.
pub(crate) struct Consumer<'r> {
    pub(crate) layer: &'r LayerNode,
    pub(crate) mix: &'r MixNode,
    pub(crate) read: &'r ReadNode,
    /// For each channel that the layer reads, the channel of the batch norm that it is.
    pub(crate) channels: Vec<usize>,
    /// An operation in between that commutes with a scale only where the scale is not negative.
    pub(crate) increasing: Option<&'static str>,
    /// An operation in between that puts zeros around the channels.
    pub(crate) border: Option<&'static str>,
}

/// Finds the layer that alone reads a batch norm, in evaluation mode. Only operations that commute
/// with a scale and a shift, except at a border of zeros, may be in between.
///
/// # Errors
/// Why there is none, as a clause behind "behind it,".
pub(crate) fn consumer(recording: &Recording, norm: usize) -> Result<Consumer<'_>, String> {
    let unnamed = "the wiring does not name the activations";
    let node = &recording.layers[norm];
    let [result] = &node.results[..] else {
        return Err("there is no single output".to_owned());
    };
    if !node.is_said {
        return Err(unnamed.to_owned());
    }
    let steps = &recording.steps[..recording.evaluation];
    let mut is_read: HashSet<ValueId> = recording.outputs.iter().copied().collect();
    for step in steps {
        match step {
            Step::Operation(operation) => is_read.extend(&operation.operands),
            Step::Layer(index) => is_read.extend(&recording.layer(*index).arrivals),
            Step::Sum(value, _) => _ = is_read.insert(*value),
            Step::Hold(..) => {}
        }
    }
    let mut value = result.value;
    let mut channels: Vec<usize> = (0..recording.values[value].len()).collect();
    let (mut increasing, mut border) = (None, None);
    loop {
        let mut operations: Vec<&Operation> = Vec::new();
        let mut layers: Vec<&LayerNode> = Vec::new();
        for step in steps {
            match step {
                Step::Operation(operation) if operation.operands.contains(&value) => {
                    operations.push(operation);
                }
                Step::Layer(index) if recording.layer(*index).arrivals.contains(&value) => {
                    layers.push(recording.layer(*index));
                }
                _ => {}
            }
        }
        if recording.outputs.contains(&value) {
            return Err("its output is one of the network".to_owned());
        }
        match (&operations[..], &layers[..]) {
            (operations, [layer]) => {
                let (Some(mix), [read]) = (&layer.mix, &layer.reads[..]) else {
                    let path = &layer.path;
                    return Err(format!("`{path}` does not mix channels by a weight"));
                };
                // The trace of a layer flattens what the layer receives, or takes the parts of its
                // groups. Nothing else reads these.
                let is_of_layer = |operation: &&Operation| !is_read.contains(&operation.result);
                if !operations.iter().all(is_of_layer) {
                    return Err("its output has several readers".to_owned());
                }
                if let Some(flatten) =
                    operations.iter().find(|flatten| flatten.result == read.value)
                {
                    channels = moved(flatten, channels).ok_or_else(|| comes_first(flatten))?;
                } else if read.value != value {
                    return Err(format!("`{}` reads something else, too", layer.path));
                }
                if !layer.is_said {
                    return Err(unnamed.to_owned());
                }
                return Ok(Consumer { layer, mix, read, channels, increasing, border });
            }
            ([operation], []) => {
                let operator = &operation.operator;
                match (&operator.effect, operator.commutes) {
                    (Effect::Border, _) => border = border.or(Some(operator.name)),
                    (_, Commutes::Increasing) => increasing = increasing.or(Some(operator.name)),
                    (Effect::Keep, _) | (_, Commutes::Affine) => {}
                    _ => return Err(comes_first(operation)),
                }
                channels = moved(operation, channels).ok_or_else(|| comes_first(operation))?;
                value = operation.result;
            }
            ([], []) => return Err("nothing reads its output".to_owned()),
            _ => return Err("its output has several readers".to_owned()),
        }
    }
}

/// The channels of the result of an operation that only moves them.
fn moved(operation: &Operation, channels: Vec<usize>) -> Option<Vec<usize>> {
    match &operation.operator.sources {
        Sources::Same => Some(channels),
        Sources::Select(positions) => {
            positions.iter().map(|&position| channels.get(position as usize).copied()).collect()
        }
        _ => None,
    }
}

fn comes_first(operation: &Operation) -> String {
    let name = operation.operator.name;
    format!("`{name}` comes before any convolution or linear layer")
}
