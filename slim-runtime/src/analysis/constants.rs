//! Constants: what a channel carries when the scales γ of its batch norms are zero and the shifts β
//! keep their values. Absorption adds their effect to the next bias or running mean.

use std::rc::Rc;

use tch::{Device, Kind};

use crate::error::SelectionError;
use crate::graph::{
    AxisRole, Effect, LayerNode, LayerResult, Operation, Recording, Sources, Step, ValueId,
};
use crate::{Error, Result};

/// The number that a channel carries when the scales of its batch norms are zero and their shifts
/// keep their values.
#[derive(Debug, Clone)]
pub(crate) enum ConstValue {
    Known(f64),
    /// This number everywhere except at the padded border of the image.
    Interior(f64),
    /// The number left a batch norm as `value`, and no trace names the activations that it has
    /// passed since.
    Unsaid {
        value: f64,
        /// The earliest layer that the number comes from, by position; behind an unnamed operation,
        /// the number of layers before it. An activation makes the number known if the part that
        /// names it starts at or before this layer.
        since: usize,
        /// Whether the number has been added to others, or multiplied with them.
        joined: bool,
    },
    /// The channel does not carry a number that is independent of the input. The text says why, as
    /// the end of a sentence.
    Unknown(Rc<str>),
}

/// Computes the constants of each value of a graph, by channel.
///
/// # Errors
/// [`SelectionError::NonFinite`](crate::error::SelectionError::NonFinite) for a shift that is infinite or NaN, [`Error::Torch`].
pub(crate) fn constants(recording: &Recording) -> Result<Vec<Rc<[ConstValue]>>> {
    let none: Rc<[ConstValue]> = Rc::new([]);
    let of = recording.values.iter().map(|_| Rc::clone(&none)).collect();
    let mut constants = Constants { recording, of };
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => {
                constants.of[operation.result] = constants.operation(operation)?;
            }
            Step::Layer(index) => {
                let layer = recording.layer(*index);
                for result in &layer.results {
                    constants.of[result.value] = constants.result(*index, layer, result)?;
                }
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    Ok(constants.of)
}

struct Constants<'r> {
    recording: &'r Recording,
    /// By value.
    of: Vec<Rc<[ConstValue]>>,
}

impl Constants<'_> {
    fn operation(&self, operation: &Operation) -> Result<Rc<[ConstValue]>> {
        let Operation { operator, operands, path, .. } = operation;
        let operand = |index: usize| &self.of[operands[index]];
        let zip = |join: fn(&ConstValue, &ConstValue) -> ConstValue| {
            operands[1..].iter().fold(Rc::clone(operand(0)), |joined, &other| {
                joined.iter().zip(self.of[other].iter()).map(|(a, b)| join(a, b)).collect()
            })
        };
        Ok(match (&operator.effect, &operator.sources) {
            (Effect::Zero, _) => {
                let zeros = self.recording.values[operation.result].iter();
                zeros.map(|_| ConstValue::Known(0.0)).collect()
            }
            (_, Sources::New) if operator.name == "input" => {
                self.unknown(operation.result, "nothing says what the model's input gives")
            }
            (_, Sources::New) => {
                self.unknown(operation.result, &format!("`{path}` uses a constant there"))
            }
            (Effect::Sum { subtract: false }, _) => zip(ConstValue::sum),
            (Effect::Sum { subtract: true }, _) => zip(|a, b| ConstValue::sum(a, &b.negated())),
            (Effect::ZeroOnly, Sources::Zip) => {
                let all: Vec<_> = operands.iter().map(|&operand| &self.of[operand]).collect();
                let why: Rc<str> = format!("how `{path}` changes their value is unknown").into();
                let zero = |at: usize| all.iter().all(|constants| constants[at].is_zero());
                let known = |at| {
                    if zero(at) {
                        ConstValue::Known(0.0)
                    } else {
                        ConstValue::Unknown(Rc::clone(&why))
                    }
                };
                (0..operand(0).len()).map(known).collect()
            }
            (Effect::Product, _) => zip(ConstValue::product),
            (Effect::Keep, Sources::Concat) => {
                operands.iter().flat_map(|&operand| self.of[operand].iter().cloned()).collect()
            }
            (Effect::Keep, Sources::Select(positions)) => selected(operand(0), positions),
            (Effect::ZeroOnly, Sources::Select(positions)) => {
                zero_only(&selected(operand(0), positions), path)
            }
            (Effect::Keep, _) => Rc::clone(operand(0)),
            (Effect::Border, _) => {
                let padded = |constant: &ConstValue| match constant {
                    ConstValue::Known(value) if *value != 0.0 => ConstValue::Interior(*value),
                    other => other.clone(),
                };
                operand(0).iter().map(padded).collect()
            }
            (Effect::Pooled, _) => {
                let why: Rc<str> =
                    format!("`{path}` pools over the border that it has padded them with").into();
                let pooled = |constant: &ConstValue| match constant {
                    ConstValue::Interior(_) => ConstValue::Unknown(Rc::clone(&why)),
                    other => other.clone(),
                };
                operand(0).iter().map(pooled).collect()
            }
            (Effect::Alike, Sources::Blocks(size)) => {
                let why = format!("`{path}` makes one channel of several that are not alike");
                operand(0).chunks(*size).map(|block| alike(block, &why)).collect()
            }
            (Effect::ZeroOnly | Effect::Alike, _) => zero_only(operand(0), path),
            (Effect::Map { map, scope_start, changes }, _) => {
                let values: Vec<f64> = operand(0).iter().map(ConstValue::value).collect();
                let mapped = map(&values).map_err(Error::torch(path))?;
                let unsaid = || {
                    format!("which activation they pass before the one in `{path}` is not known")
                };
                let said = operand(0).iter().zip(mapped).map(|(constant, value)| match constant {
                    ConstValue::Known(_) => ConstValue::Known(value),
                    ConstValue::Interior(_) => ConstValue::Interior(value),
                    ConstValue::Unsaid { since, .. } if since >= scope_start => {
                        ConstValue::Known(value)
                    }
                    ConstValue::Unsaid { .. } if *changes => ConstValue::Unknown(unsaid().into()),
                    other => other.clone(),
                });
                said.collect()
            }
            (Effect::Unnamed { layers }, _) => {
                let unsaid = |constant: &ConstValue| match constant {
                    ConstValue::Known(value) => ConstValue::fresh(*value, *layers, false),
                    other => other.clone(),
                };
                operand(0).iter().map(unsaid).collect()
            }
        })
    }

    /// The constants of a value that leaves a layer.
    fn result(
        &self,
        index: usize,
        layer: &LayerNode,
        result: &LayerResult,
    ) -> Result<Rc<[ConstValue]>> {
        let axis = &layer.axes[result.axis];
        if let Some(shift) = result.shift {
            let shifts = shifts(layer, shift, axis.ids.len())?;
            let fresh = |value| ConstValue::fresh(value, index, layer.is_said);
            return Ok(shifts.into_iter().map(fresh).collect());
        }
        Ok(match axis.role {
            AxisRole::Made => {
                let why = format!("what `{}` gives depends on the input", layer.path);
                self.unknown(result.value, &why)
            }
            _ if result.moves => Rc::clone(&self.of[axis.value]),
            _ => zero_only(&self.of[axis.value], &layer.path),
        })
    }

    fn unknown(&self, value: ValueId, why: &str) -> Rc<[ConstValue]> {
        let why: Rc<str> = why.into();
        self.recording.values[value].iter().map(|_| ConstValue::Unknown(Rc::clone(&why))).collect()
    }
}

/// The shifts of a batch norm: its output when its scale is zero. Zeros where it has no shift.
fn shifts(layer: &LayerNode, shift: Option<usize>, width: usize) -> Result<Vec<f64>> {
    let Some(shift) = shift.map(|shift| &layer.tensors[shift]) else {
        return Ok(vec![0.0; width]);
    };
    let _no_grad = tch::no_grad_guard();
    let read =
        || Vec::<f64>::try_from(&shift.tensor.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?);
    let values = read().map_err(Error::torch(format!("{}.{}", layer.path, shift.name)))?;
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((channel, &value)) => {
            let (path, tensor) = (layer.path.clone(), shift.name.to_owned());
            Err(Error::Selection(SelectionError::NonFinite { path, tensor, channel, value }))
        }
        None => Ok(values),
    }
}

/// The constants behind an operation that maps zero to zero and may map other constants to values
/// that differ between positions.
/// The constants of these channels, as far as they are known: a layer may make the value in a later
/// step.
fn selected(constants: &[ConstValue], positions: &[u32]) -> Rc<[ConstValue]> {
    positions.iter().filter_map(|&at| constants.get(at as usize).cloned()).collect()
}

fn zero_only(constants: &[ConstValue], path: &str) -> Rc<[ConstValue]> {
    let why: Rc<str> = format!("how `{path}` changes their value is unknown").into();
    let through = |constant: &ConstValue| match constant {
        ConstValue::Known(0.0) | ConstValue::Unknown(_) => constant.clone(),
        _ => ConstValue::Unknown(Rc::clone(&why)),
    };
    constants.iter().map(through).collect()
}

/// The constant of a block of channels that an operation distinguishes by position or group: known
/// only if all channels of the block carry the same number.
fn alike(block: &[ConstValue], why: &str) -> ConstValue {
    match block {
        [only] => only.clone(),
        [first @ ConstValue::Known(value), others @ ..]
            if others
                .iter()
                .all(|other| matches!(other, ConstValue::Known(other) if other == value)) =>
        {
            first.clone()
        }
        _ => ConstValue::Unknown(why.into()),
    }
}

impl ConstValue {
    /// A constant directly behind a batch norm or an unnamed operation. Zero is known even if no
    /// trace names the activations: they all map zero to zero.
    fn fresh(value: f64, since: usize, said: bool) -> Self {
        if said || value == 0.0 {
            ConstValue::Known(value)
        } else {
            ConstValue::Unsaid { value, since, joined: false }
        }
    }

    fn is_zero(&self) -> bool {
        matches!(self, ConstValue::Known(0.0))
    }

    fn value(&self) -> f64 {
        match self {
            ConstValue::Known(value)
            | ConstValue::Interior(value)
            | ConstValue::Unsaid { value, .. } => *value,
            ConstValue::Unknown(_) => 0.0,
        }
    }

    fn negated(&self) -> Self {
        match self {
            ConstValue::Known(value) => ConstValue::Known(-value),
            ConstValue::Interior(value) => ConstValue::Interior(-value),
            ConstValue::Unsaid { value, since, joined } => {
                ConstValue::Unsaid { value: -value, since: *since, joined: *joined }
            }
            ConstValue::Unknown(why) => ConstValue::Unknown(Rc::clone(why)),
        }
    }

    fn joined(a: &ConstValue, b: &ConstValue, value: f64) -> Self {
        match (a, b) {
            (ConstValue::Unknown(why), _) | (_, ConstValue::Unknown(why)) => {
                ConstValue::Unknown(Rc::clone(why))
            }
            (ConstValue::Unsaid { since, .. }, ConstValue::Unsaid { since: other, .. }) => {
                ConstValue::Unsaid { value, since: *since.min(other), joined: true }
            }
            (ConstValue::Unsaid { since, .. }, _) | (_, ConstValue::Unsaid { since, .. }) => {
                ConstValue::Unsaid { value, since: *since, joined: true }
            }
            (ConstValue::Known(_), ConstValue::Known(_)) => ConstValue::Known(value),
            _ => ConstValue::Interior(value),
        }
    }

    fn sum(a: &ConstValue, b: &ConstValue) -> Self {
        match (a.is_zero(), b.is_zero()) {
            (true, _) => b.clone(),
            (_, true) => a.clone(),
            _ => ConstValue::joined(a, b, a.value() + b.value()),
        }
    }

    fn product(a: &ConstValue, b: &ConstValue) -> Self {
        if a.is_zero() || b.is_zero() {
            ConstValue::Known(0.0)
        } else {
            ConstValue::joined(a, b, a.value() * b.value())
        }
    }
}
