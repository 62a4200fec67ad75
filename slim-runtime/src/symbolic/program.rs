//! A forward pass as a program: its calls, and which of their numbers follow the sizes of the
//! inputs. Exports write it.

use std::collections::HashSet;

use tch::Tensor;

use super::runs::SCALES;
use crate::error::CheckError;
use crate::graph::view::{Decider, Decisions};
use crate::graph::{Argument, Call, Calls, Flow, FlowKind, Probe, Tracer, UsedInput, ValueId};
use crate::{Error, Prunable, Result};

/// The number of samples, and another one.
const BATCH: [i64; 2] = [2, 3];

/// By how much a dimension of an input is enlarged to see whether it is free: first by a multiple
/// of the strides of any network, so that the network takes it. Odd sizes show whether `forward`
/// does something else for them, such as padding them.
const MORE: [i64; 3] = [64, 1, 30];

/// The calls of a forward pass.
pub(crate) struct Program {
    /// The calls at the given shapes.
    calls: Calls,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    /// The calls at other sizes, one free dimension at a time.
    others: Vec<Other>,
}

/// The calls at another size of one dimension.
struct Other {
    /// `None` for the batch, else an input and its dimension.
    dimension: Option<(usize, usize)>,
    calls: Calls,
}

/// A number that a call is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Fixed(i64),
    /// A size of a value, times a number, divided by another.
    Of {
        value: ValueId,
        dim: usize,
        times: i64,
        over: i64,
    },
}

impl Program {
    /// Runs the symbolic pass of a model in evaluation mode on inputs of these shapes, without
    /// samples, and on larger ones. A dimension is free if the calls are the same then, but for
    /// numbers that follow from the sizes of tensors.
    ///
    /// # Errors
    /// The errors of [`Prunable::trace`];
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) for a wiring that is declared, and
    /// for an input whose shape is not known;
    /// [`CheckError::Deployed`](crate::error::CheckError::Deployed).
    pub(crate) fn of<M: Prunable + ?Sized>(model: &M, shapes: &[Vec<i64>]) -> Result<Self> {
        let Reading { decisions, shapes, stated, widths } = Reading::of(model, shapes)?;
        let run = |batch: i64, shapes: &[Vec<i64>]| run(model, shapes, batch, &widths, &decisions);
        let (calls, inputs, outputs) = run(BATCH[0], &shapes)?;
        let mut program = Program { calls, inputs, outputs, others: Vec::new() };
        if let Ok((calls, _, outputs)) = run(BATCH[1], &shapes) {
            program.admit(Other { dimension: None, calls }, &outputs);
        }
        for (input, shape) in shapes.iter().enumerate().filter(|&(input, _)| !stated[input]) {
            let channels = channel_dim(shape, widths[input]);
            for dim in (0..shape.len()).filter(|&dim| Some(dim) != channels) {
                for more in MORE {
                    let mut larger = shapes.clone();
                    larger[input][dim] += more;
                    // A shape is read by its number of channels, so no other size may equal it.
                    if widths[input].is_some_and(|width| larger[input][dim] == width as i64) {
                        larger[input][dim] += 2 * more;
                    }
                    let dimension = Some((input, dim + 1));
                    let is_free = match run(BATCH[0], &larger) {
                        Ok((calls, _, outputs)) => {
                            program.admit(Other { dimension, calls }, &outputs)
                        }
                        // The network need not take every size.
                        Err(_) => more != MORE[0],
                    };
                    if !is_free {
                        program.others.retain(|other| other.dimension != dimension);
                        break;
                    }
                }
            }
        }
        Ok(program)
    }

    /// The program for inputs of the given sizes, of which only the batch is free. `None` if no
    /// other dimension is free anyway.
    pub(crate) fn with_fixed_sizes(self) -> Option<Self> {
        let (batch, free): (Vec<_>, Vec<_>) =
            self.others.into_iter().partition(|other| other.dimension.is_none());
        (!free.is_empty()).then_some(Program { others: batch, ..self })
    }

    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls.list
    }

    /// For each call, whether an output depends on it.
    pub(crate) fn used(&self) -> Vec<bool> {
        let asked = self.calls.asked.iter().map(|(value, _)| *value);
        let mut read: HashSet<ValueId> = self.outputs.iter().copied().chain(asked).collect();
        let mut used = vec![false; self.calls.list.len()];
        for (used, call) in used.iter_mut().zip(&self.calls.list).rev() {
            *used = call.results.iter().any(|result| read.contains(result));
            if *used {
                read.extend(call.arguments.iter().flat_map(Argument::values));
            }
        }
        used
    }

    /// Whether two sizes of values are the same in all runs.
    pub(crate) fn are_equal(
        &self,
        (a, dim): (ValueId, usize),
        (b, other): (ValueId, usize),
    ) -> bool {
        let pair = |calls: &Calls| {
            let size = |value, dim| calls.sizes.get(&value).and_then(|all| all.get(dim)).copied();
            Some((size(a, dim)?, size(b, other)?))
        };
        self.each_run(pair).is_some_and(|pairs| pairs.into_iter().all(|(a, b)| a == b))
    }

    /// The sizes of a value: `None` where a size is free or follows from one that is. `None` if the
    /// sizes are not known.
    pub(crate) fn sizes(&self, value: ValueId) -> Option<Vec<Option<i64>>> {
        let own = self.calls.sizes.get(&value)?;
        let same = |dim: usize| {
            let others = self.others.iter().map(|other| other.calls.sizes.get(&value));
            others
                .into_iter()
                .all(|sizes| sizes.is_some_and(|sizes| sizes.get(dim) == own.get(dim)))
        };
        Some(own.iter().enumerate().map(|(dim, &size)| same(dim).then_some(size)).collect())
    }

    /// The number of dimensions of a value, where it is known.
    pub(crate) fn rank(&self, value: ValueId) -> Option<usize> {
        self.calls.sizes.get(&value).map(Vec::len)
    }

    /// The numbers of an argument; `None` if the argument is no list of numbers.
    pub(crate) fn numbers(&self, call: usize, argument: usize) -> Option<Vec<Size>> {
        let Argument::Ints(own) = self.calls.list.get(call)?.arguments.get(argument)? else {
            return None;
        };
        (0..own.len()).map(|index| self.number(call, argument, index)).collect()
    }

    /// A number of a list, in terms of the sizes that `forward` asked for.
    fn number(&self, call: usize, argument: usize, index: usize) -> Option<Size> {
        let of = |calls: &Calls| match calls.list.get(call)?.arguments.get(argument)? {
            Argument::Ints(numbers) => numbers.get(index).copied(),
            _ => None,
        };
        let numbers = self.each_run(of)?;
        if numbers.windows(2).all(|pair| pair[0] == pair[1]) {
            return Some(Size::Fixed(numbers[0]));
        }
        self.calls.asked.iter().enumerate().find_map(|(question, (value, sizes))| {
            (0..sizes.len()).find_map(|dim| {
                let sizes =
                    self.each_run(|calls| calls.asked.get(question)?.1.get(dim).copied())?;
                let (number, size) = (numbers[0], sizes[0]);
                if size <= 0 || number <= 0 {
                    return None;
                }
                let shared = gcd(number, size);
                let (times, over) = (number / shared, size / shared);
                let mut pairs = numbers.iter().zip(&sizes);
                let follows = pairs.all(|(&number, &size)| number == size * times / over);
                follows.then_some(Size::Of { value: *value, dim, times, over })
            })
        })
    }

    /// The result of `of` for each run; `None` if a run has none.
    fn each_run<T>(&self, of: impl Fn(&Calls) -> Option<T>) -> Option<Vec<T>> {
        let others = self.others.iter().map(|other| &other.calls);
        std::iter::once(&self.calls).chain(others).map(of).collect()
    }

    /// Whether another size of a position leaves the sizes that follow the batch as they are.
    /// Positions must not become samples, as in a `view([-1, 512])` behind a larger image.
    fn keeps_samples(&self, other: &Other) -> bool {
        let size = |calls: &Calls, output: &ValueId, dim: usize| {
            calls.sizes.get(output).and_then(|sizes| sizes.get(dim)).copied()
        };
        let batch = self.others.iter().find(|other| other.dimension.is_none());
        let Some(batch) = batch.filter(|_| other.dimension.is_some()) else { return true };
        self.outputs.iter().all(|output| {
            let own = &self.calls;
            (0..self.rank(*output).unwrap_or(0))
                .filter(|&dim| size(&batch.calls, output, dim) != size(own, output, dim))
                .all(|dim| size(&other.calls, output, dim) == size(own, output, dim))
        })
    }

    /// Adds a run at another size, and returns whether it shows that the size is free. If not, the
    /// run is not added.
    fn admit(&mut self, other: Other, outputs: &[ValueId]) -> bool {
        let (own, found) = (&self.calls, &other.calls);
        let varies = match other.dimension {
            None => true,
            // A model may state the shape of its input, so that the run was the same.
            Some((input, dim)) => self.inputs.get(input).is_some_and(|value| {
                let size =
                    |calls: &Calls| calls.sizes.get(value).and_then(|all| all.get(dim)).copied();
                size(own) != size(found)
            }),
        };
        let same = own.list.len() == found.list.len()
            && own.list.iter().zip(&found.list).all(|(own, other)| is_same(own, other))
            && own.asked.len() == found.asked.len()
            && self.outputs == outputs;
        if !varies || !same || !self.keeps_samples(&other) {
            return false;
        }
        self.others.push(other);
        let is_understood = (0..self.calls.list.len()).all(|call| {
            let arguments = self.calls.list[call].arguments.iter().enumerate();
            arguments
                .filter(|(_, argument)| matches!(argument, Argument::Ints(_)))
                .all(|(argument, _)| self.numbers(call, argument).is_some())
        });
        if !is_understood {
            self.others.pop();
        }
        is_understood
    }
}

/// What the runs with true numbers of channels need: how the numbers that `forward` passes on are
/// understood, and the shape and the number of channels of each input.
struct Reading {
    decisions: Decisions,
    shapes: Vec<Vec<i64>>,
    /// Whether the model itself states the shape of each input.
    stated: Vec<bool>,
    /// The number of channels of each input; `None` for indices, which are no channels.
    widths: Vec<Option<usize>>,
}

impl Reading {
    /// `shapes` may be empty where the model states them.
    fn of<M: Prunable + ?Sized>(model: &M, shapes: &[Vec<i64>]) -> Result<Self> {
        let probe = Probe { scale: SCALES[0], batch: BATCH[0], ..Probe::default() };
        let mut cx = Tracer::with_probe(probe);
        cx.decider = Decider::new(None, true);
        let input = cx.open_shaped((!shapes.is_empty()).then_some(shapes));
        model.trace(&mut cx, input)?;
        if let Some(path) = cx.recording.deployed.take() {
            return Err(Error::Check(CheckError::Deployed { path }));
        }
        if !cx.recording.is_forward || !cx.recording.declared.is_empty() {
            return Err(cx.layer_error(
                "its wiring is declared by the order of its fields, which does not say all that `forward` does; write `#[slim_runtime::forward]` above its `impl ModuleT`, without `#[prune(sequential)]`".to_owned(),
            ));
        }
        let mut reading = Self {
            decisions: std::mem::take(&mut cx.decider.made),
            shapes: Vec::new(),
            stated: Vec::new(),
            widths: Vec::new(),
        };
        for UsedInput { shape, is_stated, width } in cx.used_inputs() {
            let Some(shape) = shape else {
                return Err(cx.layer_error(
                    "the shape of its input is not known; give it, as in `&[&[3, 224, 224]]`, or write `#[prune(input = [3, 224, 224])]` on the struct".to_owned(),
                ));
            };
            reading.widths.push(width);
            reading.shapes.push(shape);
            reading.stated.push(is_stated);
        }
        Ok(reading)
    }
}

/// The calls, inputs and outputs of a run with the true numbers of channels.
fn run<M: Prunable + ?Sized>(
    model: &M,
    shapes: &[Vec<i64>],
    batch: i64,
    widths: &[Option<usize>],
    decisions: &Decisions,
) -> Result<(Calls, Vec<ValueId>, Vec<ValueId>)> {
    let mut cx = Tracer::with_probe(Probe { scale: 1, batch, ..Probe::default() });
    cx.decider = Decider::new(Some(decisions.clone()), true);
    cx.calls = Some(Calls::default());
    let open = cx.open_shaped(Some(shapes));
    let first = |shape: &Vec<i64>| shape.first().and_then(|&size| usize::try_from(size).ok());
    let widths = widths.iter().zip(shapes);
    let widths: Vec<usize> =
        widths.map(|(width, shape)| width.or_else(|| first(shape)).unwrap_or(0)).collect();
    let input = cx.fix_inputs(&open, &widths);
    let inputs = values(&input);
    let output = model.trace(&mut cx, input)?;
    let calls = cx.calls.take().unwrap_or_default();
    Ok((calls, inputs, values(&output)))
}

fn values(flow: &Flow) -> Vec<ValueId> {
    match &flow.0 {
        FlowKind::Value(value) => vec![value.id],
        FlowKind::Tuple(parts) => parts.iter().flat_map(values).collect(),
        FlowKind::Open(_) => Vec::new(),
    }
}

/// The dimension of an input's shape, without samples, that holds its channels.
fn channel_dim(shape: &[i64], width: Option<usize>) -> Option<usize> {
    let width = width? as i64;
    let is_last = shape.first() != Some(&width) && shape.last() == Some(&width);
    Some(if is_last { shape.len() - 1 } else { 0 })
}

/// Whether two calls are the same, but for lists of numbers.
fn is_same(a: &Call, b: &Call) -> bool {
    let arguments = a.arguments.iter().zip(&b.arguments);
    a.name == b.name
        && a.results == b.results
        && a.arguments.len() == b.arguments.len()
        && arguments.into_iter().all(|(a, b)| is_same_argument(a, b))
}

fn is_same_argument(a: &Argument, b: &Argument) -> bool {
    match (a, b) {
        (Argument::Value(a), Argument::Value(b)) => a == b,
        (Argument::Values(a), Argument::Values(b)) => a == b,
        (Argument::Tensor(a), Argument::Tensor(b)) => is_same_tensor(a, b),
        (Argument::Ints(a), Argument::Ints(b)) => a.len() == b.len(),
        (Argument::Number(a), Argument::Number(b)) => a.to_bits() == b.to_bits(),
        (Argument::Numbers(a), Argument::Numbers(b)) => a == b,
        (Argument::Flag(a), Argument::Flag(b)) => a == b,
        (Argument::Text(a), Argument::Text(b)) => a == b,
        (Argument::Kind(a), Argument::Kind(b)) => a == b,
        (Argument::None, Argument::None) => true,
        _ => false,
    }
}

fn is_same_tensor(a: &Tensor, b: &Tensor) -> bool {
    a.data_ptr() == b.data_ptr() && a.size() == b.size() && a.stride() == b.stride()
        || a.kind() == b.kind() && a.size() == b.size() && a.f_equal(b).unwrap_or(false)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}
