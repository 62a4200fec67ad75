//! Operators: the effect of a tensor operation on channels, as data for all passes.
//!
//! An operator describes where each channel of its result comes from ([`Sources`]), when that
//! channel is gated ([`Gate`]), and what an operation does to a channel that carries one constant
//! ([`Effect`]). A new operation is a new combination of these, so passes need no change.

use std::fmt;
use std::rc::Rc;

use tch::TchError;

use crate::graph::KeepReason;

/// The effect of one operation on channels.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// Name in reports: `cat`, `relu`.
    pub(crate) name: &'static str,
    pub(crate) sources: Sources,
    pub(crate) ties: Ties,
    pub(crate) gate: Gate,
    pub(crate) effect: Effect,
    pub(crate) commutes: Commutes,
    /// Why the channels of an operand are held, by position of the operand.
    pub(crate) holds: Vec<(usize, KeepReason)>,
}

/// Where the channels of the result come from.
#[derive(Debug, Clone)]
pub(crate) enum Sources {
    /// Nowhere: the channels are new.
    New,
    /// The channels of the first operand, one by one.
    Same,
    /// The channels of all operands, position by position. Channels at one position stay or go
    /// together.
    Zip,
    /// The channels of all operands, one operand after the other.
    Concat,
    /// The channels of the first operand at these positions.
    Select(Rc<[u32]>),
    /// Each block of this many channels in a row of the first operand. Channels of a block stay or
    /// go together.
    Blocks(usize),
    /// Each channel of the first operand, combined with the one channel of the second.
    Broadcast,
}

/// Channels of the first operand that stay or go together, in addition to those that [`Sources`]
/// joins.
#[derive(Debug, Clone)]
pub(crate) enum Ties {
    None,
    /// Each channel with the one at this position.
    To(Rc<[u32]>),
    /// The channels at one position of all parts of this size.
    Parts(usize),
}

/// When a channel of the result is gated: carries zeros once the scales and shifts of its batch
/// norms are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// When all of its sources are gated.
    All,
    /// When one of its sources is gated.
    Any,
    /// When its channel of the first operand is gated.
    First,
    /// When its channel of the first operand is gated and that of the second is not: zero divided
    /// by zero is not zero.
    Dividend,
    Never,
    /// Never. The result is infinite where the operand is zero, so multiplying it by a gated
    /// channel does not give zero.
    Pole,
    Always,
}

/// The effect on a channel that carries one constant at all positions.
#[derive(Clone)]
pub(crate) enum Effect {
    /// The constant stays.
    Keep,
    /// The constants of the operands are added, or those of later operands subtracted from the
    /// first.
    Sum { subtract: bool },
    /// The constants of the operands are multiplied.
    Product,
    /// A function is applied to the constant.
    Map {
        map: ElementMap,
        /// The number of layers before the part that names the function.
        scope_start: usize,
        /// Whether the function differs from the identity.
        changes: bool,
    },
    /// An unnamed function that maps zero to zero is applied, after this many layers.
    Unnamed { layers: usize },
    /// The constant becomes zero.
    Zero,
    /// Zero stays zero. Any other constant may become different values at different positions.
    ZeroOnly,
    /// The constant stays, except at a border of zeros.
    Border,
    /// The constant stays if it is the same at all positions, the border included.
    Pooled,
    /// The constant of a block of channels, if all of them carry the same one.
    Alike,
}

/// An element-wise function of constants.
pub(crate) type ElementMap = Rc<dyn Fn(&[f64]) -> Result<Vec<f64>, TchError>>;

/// Which functions of each channel give the same result before and after the operation.
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
    /// An element-wise operation that maps zero to zero.
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

    /// An operation that changes nothing.
    pub(crate) fn identity(name: &'static str) -> Self {
        Self::each(name, Effect::Keep).affine()
    }

    /// An operation whose result is not zero where its operand is: a sigmoid.
    pub(crate) fn ungated(name: &'static str) -> Self {
        Self { gate: Gate::Never, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// An operation whose result is infinite or NaN where its operand is zero: a logarithm.
    pub(crate) fn pole(name: &'static str) -> Self {
        Self { gate: Gate::Pole, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// An element-wise function, classified by its value at zero. `map` computes the function.
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

    /// An operation on each position whose result is zero where all operands are zero.
    pub(crate) fn zip(name: &'static str, gate: Gate) -> Self {
        Self { sources: Sources::Zip, gate, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// Channels that no layer of the network makes.
    pub(crate) fn constant(name: &'static str) -> Self {
        Self { sources: Sources::New, gate: Gate::Never, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// Channels of zeros.
    pub(crate) fn zeros(name: &'static str) -> Self {
        Self { sources: Sources::New, gate: Gate::Always, ..Self::each(name, Effect::Zero) }
    }

    /// `a * b`, position by position.
    pub(crate) fn product(name: &'static str) -> Self {
        Self { sources: Sources::Zip, gate: Gate::Any, ..Self::each(name, Effect::Product) }
    }

    /// Every channel of the first operand times the one channel of the second. The second does not
    /// gate the result: its channel is held, so its scale never becomes zero.
    pub(crate) fn broadcast(name: &'static str, by: String) -> Self {
        let holds = vec![(1, KeepReason::Broadcast { by })];
        Self { sources: Sources::Broadcast, holds, ..Self::each(name, Effect::ZeroOnly) }
    }

    /// The channels of one operand after the other.
    pub(crate) fn concat(name: &'static str) -> Self {
        Self { sources: Sources::Concat, ..Self::each(name, Effect::Keep) }
    }

    /// Selected channels of the operand, in this order.
    pub(crate) fn select(name: &'static str, positions: impl IntoIterator<Item = usize>) -> Self {
        let positions = positions.into_iter().map(|position| position as u32).collect();
        Self { sources: Sources::Select(positions), ..Self::each(name, Effect::Keep) }
    }

    /// Each block of channels in a row becomes one channel.
    pub(crate) fn blocks(name: &'static str, block: usize) -> Self {
        Self { sources: Sources::Blocks(block), gate: Gate::All, ..Self::each(name, Effect::Alike) }
    }

    /// A pool over positions: the maximum or the mean of a window. `averages_padding` says whether
    /// the mean includes zeros of the padding.
    pub(crate) fn pool(name: &'static str, maximum: bool, averages_padding: bool) -> Self {
        let (effect, commutes) = match (averages_padding, maximum) {
            (true, _) => (Effect::ZeroOnly, Commutes::No),
            (false, true) => (Effect::Pooled, Commutes::Increasing),
            (false, false) => (Effect::Pooled, Commutes::Affine),
        };
        Self { commutes, ..Self::each(name, effect) }
    }

    /// A scale and a shift give the same result before and after this operation.
    pub(crate) fn affine(self) -> Self {
        Self { commutes: Commutes::Affine, ..self }
    }

    /// Ties the channels at one position of all parts of this size: they stay or go together.
    pub(crate) fn tied(self, size: usize) -> Self {
        Self { ties: Ties::Parts(size), ..self }
    }

    /// Ties each channel to the one at this position: they stay or go together.
    pub(crate) fn tied_to(self, representatives: Vec<usize>) -> Self {
        let to = representatives.into_iter().map(|position| position as u32).collect();
        Self { ties: Ties::To(to), ..self }
    }
}
