//! Operators: what a tensor operation does to channels, as data that every pass reads.
//!
//! An operator is described by where each channel of its result comes from ([`Sources`]), when that
//! channel is gated ([`Gate`]), and what becomes of a channel that carries one constant
//! ([`Effect`]). A new operation is a new combination of these; passes need not know it.

use std::fmt;
use std::rc::Rc;

use tch::TchError;

use crate::graph::KeepReason;

/// What one operation does to channels.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// The name that reports use: `cat`, `relu`.
    pub(crate) name: &'static str,
    pub(crate) sources: Sources,
    pub(crate) ties: Ties,
    pub(crate) gate: Gate,
    pub(crate) effect: Effect,
    pub(crate) commutes: Commutes,
    /// Why the channels of an operand cannot be removed, by position of the operand.
    pub(crate) holds: Vec<(usize, KeepReason)>,
}

/// Where the channels of a result come from.
#[derive(Debug, Clone)]
pub(crate) enum Sources {
    /// Nowhere: they are new.
    New,
    /// The channels of the first operand, one by one.
    Same,
    /// The channels of all operands, position by position. Those at one position become one.
    Zip,
    /// The channels of all operands, one operand after the other.
    Concat,
    /// The channels of the first operand at these positions.
    Select(Rc<[u32]>),
    /// Each block of so many channels in a row of the first operand. Those of a block become one.
    Blocks(usize),
    /// Each channel of the first operand, with the one channel of the second.
    Broadcast,
}

/// Channels of the first operand that must stay or go together, beside those that [`Sources`] makes
/// one.
#[derive(Debug, Clone)]
pub(crate) enum Ties {
    None,
    /// Each with the one at this position.
    To(Rc<[u32]>),
    /// Those at one position of parts of this size.
    Parts(usize),
}

/// When a channel of the result is gated: carries zeros once the scales and shifts of its batch
/// norms are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// When all of its sources are.
    All,
    /// When one of its sources is.
    Any,
    /// When the first operand's is.
    First,
    /// When the first operand's is and the second's is not: zero divided by zero is no zero.
    Dividend,
    Never,
    /// Never: where its operand is zero it is infinite, and what multiplies it does not take it to
    /// zero.
    Pole,
    Always,
}

/// What becomes of a channel that carries one constant at all of its positions.
#[derive(Clone)]
pub(crate) enum Effect {
    /// It stays what it is.
    Keep,
    /// The constants of the operands are added, or those behind the first subtracted.
    Sum { subtract: bool },
    /// The constants of the operands are multiplied.
    Product,
    /// This function of it, element by element.
    Map {
        map: ElementMap,
        /// The number of layers in front of the part that says so.
        scope_start: usize,
        /// Whether the function changes anything.
        changes: bool,
    },
    /// Some function of it that maps zero to zero and that nothing names, behind so many layers.
    Unnamed { layers: usize },
    /// It is zero, whatever it was.
    Zero,
    /// Zero stays zero, and anything else may differ from position to position.
    ZeroOnly,
    /// It is that constant but at a border of zeros.
    Border,
    /// It stays what it is, if it is the same everywhere.
    Pooled,
    /// A block is a constant where all of its channels are the same.
    Alike,
}

/// An element-wise function of constants.
pub(crate) type ElementMap = Rc<dyn Fn(&[f64]) -> Result<Vec<f64>, TchError>>;

/// Which function of each channel, applied behind the operation, may as well be applied in front of
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commutes {
    No,
    /// A scale and a shift.
    Affine,
    /// A scale that is not negative, and a shift.
    Increasing,
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Keep => "keep",
            Effect::Sum { .. } => "sum",
            Effect::Product => "product",
            Effect::Map { .. } => "map",
            Effect::Unnamed { .. } => "unnamed",
            Effect::Border => "border",
            Effect::Pooled => "pooled",
            Effect::Zero => "zero",
            Effect::ZeroOnly => "zero only",
            Effect::Alike => "alike",
        })
    }
}

impl Operator {
    /// An operation on each element that maps zero to zero.
    pub(crate) fn each(name: &'static str, effect: Effect) -> Self {
        Self {
            name,
            sources: Sources::Same,
            ties: Ties::None,
            gate: Gate::First,
            effect,
            commutes: Commutes::No,
            holds: Vec::new(),
        }
    }

    /// A new input of the model.
    pub(crate) fn input() -> Self {
        Self { sources: Sources::New, gate: Gate::Never, ..Self::each("input", Effect::ZeroOnly) }
    }

    /// Changes nothing.
    pub(crate) fn identity(name: &'static str) -> Self {
        Self::each(name, Effect::Keep).affine()
    }

    /// What is not zero where its operand is: a sigmoid.
    pub(crate) fn ungated(name: &'static str) -> Self {
        Self { gate: Gate::Never, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// What is infinite, or no number, where its operand is zero: a logarithm.
    pub(crate) fn pole(name: &'static str) -> Self {
        Self { gate: Gate::Pole, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// A function of each element, by what it makes of zero. `map` is what it makes of any number.
    pub(crate) fn function(name: &'static str, at_zero: f64, map: ElementMap) -> Self {
        if at_zero == 0.0 {
            Self::each(name, Effect::Map { map, scope_start: 0, changes: true })
        } else if at_zero.is_finite() {
            Self::ungated(name)
        } else {
            Self::pole(name)
        }
    }

    /// `a + b`, position by position.
    pub(crate) fn sum(name: &'static str) -> Self {
        Self {
            sources: Sources::Zip,
            gate: Gate::All,
            ..Self::each(name, Effect::Sum { subtract: false })
        }
    }

    /// `a - b`, position by position.
    pub(crate) fn difference(name: &'static str) -> Self {
        Self { effect: Effect::Sum { subtract: true }, ..Self::sum(name) }
    }

    /// Something that is zero where all operands are.
    pub(crate) fn zip(name: &'static str, gate: Gate) -> Self {
        Self { sources: Sources::Zip, gate, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// Channels that nothing in the network makes.
    pub(crate) fn constant(name: &'static str) -> Self {
        Self { sources: Sources::New, gate: Gate::Never, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// Zeros.
    pub(crate) fn zeros(name: &'static str) -> Self {
        Self { sources: Sources::New, gate: Gate::Always, ..Self::each(name, Effect::Zero) }
    }

    /// `a * b`, position by position.
    pub(crate) fn product(name: &'static str) -> Self {
        Self { sources: Sources::Zip, gate: Gate::Any, ..Self::each(name, Effect::Product) }
    }

    /// Every channel of the first operand times the one channel of the second, which is no gate: it
    /// stays, so its scale never takes the others to zero.
    pub(crate) fn broadcast(name: &'static str, by: String) -> Self {
        let holds = vec![(1, KeepReason::Broadcast { by })];
        Self { sources: Sources::Broadcast, holds, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// One operand after the other.
    pub(crate) fn concat(name: &'static str) -> Self {
        Self { sources: Sources::Concat, ..Self::each(name, Effect::Keep) }
    }

    /// Some channels, in some order.
    pub(crate) fn select(name: &'static str, positions: impl IntoIterator<Item = usize>) -> Self {
        let positions = positions.into_iter().map(|position| position as u32).collect();
        Self { sources: Sources::Select(positions), ..Self::each(name, Effect::Keep) }
    }

    /// Each block of channels in a row becomes one channel.
    pub(crate) fn blocks(name: &'static str, block: usize) -> Self {
        Self { sources: Sources::Blocks(block), gate: Gate::All, ..Self::each(name, Effect::Alike) }
    }

    /// A pool over positions: the largest or the mean of a window, beyond whose borders there is
    /// nothing or there are zeros.
    pub(crate) fn pool(name: &'static str, maximum: bool, averages_padding: bool) -> Self {
        let (effect, commutes) = match (averages_padding, maximum) {
            (true, _) => (Effect::ZeroOnly, Commutes::No),
            (false, true) => (Effect::Pooled, Commutes::Increasing),
            (false, false) => (Effect::Pooled, Commutes::Affine),
        };
        Self { commutes, ..Self::each(name, effect) }
    }

    /// A scale and a shift behind it may as well be in front of it.
    pub(crate) fn affine(self) -> Self {
        Self { commutes: Commutes::Affine, ..self }
    }

    /// Channels at one position of parts of this size stay or go together.
    pub(crate) fn tied(self, size: usize) -> Self {
        Self { ties: Ties::Parts(size), ..self }
    }

    /// Each channel stays or goes together with the one at this position.
    pub(crate) fn tied_to(self, representatives: Vec<usize>) -> Self {
        let to = representatives.into_iter().map(|position| position as u32).collect();
        Self { ties: Ties::To(to), ..self }
    }
}
