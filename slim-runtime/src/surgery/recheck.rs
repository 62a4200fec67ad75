//! The recheck after surgery: the symbolic pass on the slimmed network must give the dense graph
//! without the removed channels.
//!
//! It needs no sample, and finds what a plan cannot show: a branch that flips at the new width, a
//! number that is computed from a width, an index into channels that moved.

use crate::analysis::Graph;
use crate::graph::{Operation, Recording, Sources, Step, ValueId};
use crate::plan::Plan;
use crate::{Error, Prunable, Result, symbolic};

/// Compares the graph of a slimmed model with the graph that it was planned on. A declared wiring
/// is not compared, because surgery does not change it.
///
/// # Errors
/// [`Error::Undone`] with the first difference.
pub(super) fn recheck<M: Prunable + ?Sized>(
    model: &M,
    dense: &Graph,
    plan: &Plan,
    has_new_values: bool,
) -> Result<()> {
    if !dense.is_forward {
        return Ok(());
    }
    let slim = symbolic::record(model, dense.shapes.as_deref(), true)
        .map_err(|error| Error::Undone { difference: error.full_text() })?;
    let kept = Kept { has_new_values, ..Kept::of(dense, plan) };
    let Some((at, difference)) = difference(dense, &slim, &kept) else {
        if dense.outputs == slim.outputs {
            return Ok(());
        }
        let difference = "another of its tensors is returned".to_owned();
        return Err(Error::Undone { difference });
    };
    let in_training = dense.evaluation == slim.evaluation && at >= dense.evaluation;
    // Random numbers drawn after the difference do not explain it.
    let repeats = || {
        let again = || symbolic::record(model, dense.shapes.as_deref(), true);
        let differs_before = |again: Recording| {
            symbolic::first_difference(&slim, &again).is_some_and(|first| first <= at)
        };
        !(0..REPEATS).any(|_| again().is_ok_and(differs_before))
    };
    match (in_training, repeats()) {
        // Random choices in training, such as skipping a block, are not a difference.
        (true, false) => Ok(()),
        (_, true) => Err(Error::Undone { difference }),
        (false, false) => {
            let difference = format!(
                "{difference}; it does something else each time that it is run in evaluation mode, which cannot be compared: draw random numbers only `if train`"
            );
            Err(Error::Undone { difference })
        }
    }
}

/// How often `forward` runs again to find out whether it draws random numbers. A choice that is
/// made in one of three runs is missed once in 600 times.
const REPEATS: usize = 16;

/// Which channels of each value stay.
struct Kept<'g> {
    graph: &'g Graph,
    /// Per channel group.
    stays: Vec<bool>,
    /// Whether tensors have other values than when they were recorded, such as values from a file.
    has_new_values: bool,
}

impl<'g> Kept<'g> {
    fn of(graph: &'g Graph, plan: &Plan) -> Self {
        let mut stays = vec![true; graph.channel_group.len()];
        for (node, layer) in graph.layers.iter().zip(&plan.layers) {
            for (axis, planned) in node.axes.iter().zip(&layer.axes) {
                let mut kept = vec![false; axis.ids.len()];
                planned.keep.iter().for_each(|position| kept[position] = true);
                for (&id, kept) in axis.ids.iter().zip(kept) {
                    stays[graph.channel_group(id)] &= kept;
                }
            }
        }
        Self { graph, stays, has_new_values: false }
    }

    /// Per channel of a value: its position among the channels that stay; `None` if it goes.
    fn positions(&self, value: ValueId) -> Vec<Option<u32>> {
        let mut next = 0;
        let place = |&id: &u32| {
            let stays = self.stays[self.graph.channel_group(id)];
            let position = next;
            next += u32::from(stays);
            stays.then_some(position)
        };
        self.graph.values[value].iter().map(place).collect()
    }

    fn width(&self, value: ValueId) -> usize {
        let ids = self.graph.values[value].iter();
        ids.filter(|&&id| self.stays[self.graph.channel_group(id)]).count()
    }
}

/// The first difference, and the index of its step.
fn difference(dense: &Graph, slim: &Recording, kept: &Kept) -> Option<(usize, String)> {
    let count = dense.steps.len().max(slim.steps.len());
    (0..count).find_map(|index| {
        let (before, after) = (dense.steps.get(index), slim.steps.get(index));
        let does = |recording: &Recording, step: Option<&Step>| {
            step.map_or_else(|| "nothing more".to_owned(), |step| recording.describe(step))
        };
        let changed = match (before, after) {
            (Some(before), Some(after)) => step(dense, slim, kept, (before, after)),
            _ => Some(String::new()),
        };
        changed.map(|how| {
            let (before, after) = (does(dense, before), does(slim, after));
            let how = if how.is_empty() { how } else { format!(": {how}") };
            let difference = if before == after {
                format!("{before} does something else{how}")
            } else {
                format!("{before} has become {after}{how}")
            };
            (index, difference)
        })
    })
}

/// How a step of the slimmed graph differs from the same step of the dense graph; `None` if they
/// agree.
fn step(
    dense: &Graph,
    slim: &Recording,
    kept: &Kept,
    (before, after): (&Step, &Step),
) -> Option<String> {
    match (before, after) {
        (Step::Operation(before), Step::Operation(after)) => operation(slim, kept, before, after),
        (Step::Layer(before), Step::Layer(after)) => {
            let (before, after) = (dense.layer(*before), slim.layer(*after));
            let same = before.path == after.path
                && before.kind == after.kind
                && before.arrivals == after.arrivals
                && before.axes.len() == after.axes.len();
            if !same {
                return Some(String::new());
            }
            let axes = before.axes.iter().zip(&after.axes);
            axes.map(|(before, after)| (kept.width(before.value), after)).find_map(
                |(width, axis)| {
                    (width != axis.ids.len()).then(|| {
                        let name = &axis.name;
                        format!("`{name}` has {} channels and should have {width}", axis.ids.len())
                    })
                },
            )
        }
        (Step::Hold(..), Step::Hold(..)) => None,
        (Step::Sum(before, _), Step::Sum(after, _)) if before == after => None,
        _ => Some(String::new()),
    }
}

fn operation(
    slim: &Recording,
    kept: &Kept,
    before: &Operation,
    after: &Operation,
) -> Option<String> {
    // A gate of one channel over all others becomes an elementwise product when one channel is
    // left.
    let sources = (&before.operator.sources, &after.operator.sources);
    let is_single = matches!(sources, (Sources::Broadcast, Sources::Zip))
        && slim.values[after.result].len() == 1;
    let swapped = || before.operands.iter().rev().eq(&after.operands);
    let same = before.operator.name == after.operator.name
        && before.at == after.at
        && (before.operands == after.operands || is_single && swapped())
        && before.result == after.result;
    if !same {
        return Some(String::new());
    }
    // A constant or function that is computed from tensors changes with their values.
    let follows_values =
        kept.has_new_values && (!before.contents.is_empty() || before.operator.name == "map");
    if !follows_values && !before.has_numbers_of(after) {
        let (before, after) = (&before.numbers, &after.numbers);
        return Some(format!(
            "it is given {after:?} in place of {before:?}, which depends on a number of channels or on weights"
        ));
    }
    let sizes = |operation: &Operation| [&operation.sizes[..], &operation.result_sizes].concat();
    if sizes(before) != sizes(after) {
        let (before, after) = (sizes(before), sizes(after));
        return Some(format!(
            "its sizes are {after:?} in place of {before:?}, which depends on a number of channels; compute sizes from something that stays"
        ));
    }
    let same_length = before.contents.len() == after.contents.len();
    if !follows_values && same_length && before.contents != after.contents {
        return Some(
            "the constant that it takes has other elements: it is computed from weights, statistics or a number of channels; compute it from symbolic tensors, or store it".to_owned(),
        );
    }
    let (expected, found) = (kept.width(before.result), slim.values[after.result].len());
    if expected != found {
        return Some(format!("it gives {found} channels, and should give {expected}"));
    }
    match sources {
        _ if is_single => None,
        (Sources::Select(before_positions), Sources::Select(positions)) => {
            let places = kept.positions(before.operands[0]);
            let expected: Vec<u32> =
                before_positions.iter().filter_map(|&at| places[at as usize]).collect();
            (expected != **positions).then(|| "it takes other channels".to_owned())
        }
        (Sources::Blocks(before), Sources::Blocks(after)) if before == after => None,
        (before, after) => (std::mem::discriminant(before) != std::mem::discriminant(after))
            .then(|| "it takes other channels".to_owned()),
    }
}
