//! Producers: finds which layers the channels of each value come from.

use std::rc::Rc;

use crate::graph::{Operation, Recording, Sources, Step};

/// By channel of a value: the layers that it comes from, ascending. Several for a sum, none for an
/// input of the model.
#[derive(Debug, Clone)]
pub(crate) struct Producers(Rc<[Rc<[usize]>]>);

/// The producers of each value of a graph.
pub(crate) fn producers(recording: &Recording) -> Vec<Producers> {
    let mut of = vec![Producers(Rc::new([])); recording.values.len()];
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => of[operation.result] = result(recording, &of, operation),
            Step::Layer(index) => {
                for result in &recording.layer(*index).results {
                    let width = recording.values[result.value].len();
                    of[result.value] = Producers::all(&[*index], width);
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
        Sources::New => Producers::all(&[], recording.values[operation.result].len()),
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
    fn all(layers: &[usize], width: usize) -> Self {
        let layers: Rc<[usize]> = layers.into();
        Self(std::iter::repeat_n(layers, width).collect())
    }

    /// The layers that each channel comes from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.0.iter().map(Rc::as_ref)
    }
}

fn union<'a>(sets: impl IntoIterator<Item = &'a Rc<[usize]>>) -> Rc<[usize]> {
    let mut all: Vec<usize> = sets.into_iter().flat_map(|set| set.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}
