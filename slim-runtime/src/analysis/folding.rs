//! Folding: finds the batch norms that directly follow a layer and are the only readers of its
//! output, so that the layer could do the work of both.

use std::collections::HashMap;

use crate::graph::{Commutes, LayerKind, Recording, Step, ValueId};

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
