//! Gating: finds which channels carry zeros once they are masked, and which channels must stay
//! because a layer reads them where they do not.
//!
//! Gating is a property of a value, not of a channel: one layer may read a residual stream
//! directly, another one behind its batch norm.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::graph::{
    AxisRole, ChannelId, Gate, KeepReason, LayerGate, LayerHold, LayerNode, Operation, Recording,
    Sources, Step, ValueId,
};

/// The parameters that are set to zero to remove a channel. The slimmed network computes the same
/// as the network with these zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Masking {
    /// γ and β of batch norms, as in Network Slimming. A channel stays if a layer reads it without
    /// a batch norm in between.
    #[default]
    BatchNorm,
    /// Every parameter that makes or scales the channel: filter, bias, γ, β. Networks without batch
    /// norms can be pruned this way.
    Parameters,
}

/// By channel group: why its channels are held; `None` if they may be removed. If there are several
/// reasons, the first one in the order of the forward pass.
pub(crate) fn holds(
    recording: &Recording,
    channel_group: &[ChannelId],
    masking: Masking,
) -> Vec<Option<Rc<KeepReason>>> {
    let count = recording.values.len();
    let mut gates =
        Gates { masking, of: vec![Gated::All(false); count], poles: vec![false; count] };
    let mut held =
        KeptChannelGroups { channel_group, by_channel_group: vec![None; channel_group.len()] };
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => {
                for (operand, reason) in &operation.operator.holds {
                    held.hold(&recording.values[operation.operands[*operand]], reason);
                }
                gates.operation(recording, operation);
            }
            Step::Layer(layer) => {
                let layer = recording.layer(*layer);
                for reason in &layer.holds {
                    match reason {
                        LayerHold::All(ids, reason) => held.hold(ids, reason),
                        LayerHold::Ungated(value) => {
                            held.ungated(&recording.values[*value], &gates.of[*value], &layer.path);
                        }
                    }
                }
                gates.layer(layer);
            }
            Step::Hold(ids, reason) => held.hold(ids, reason),
            Step::Sum(value, by) => {
                held.ungated(&recording.values[*value], &gates.of[*value], by);
            }
        }
    }
    held.by_channel_group
}

/// Which channels of a value are gated.
#[derive(Clone)]
enum Gated {
    All(bool),
    Each(Rc<[bool]>),
}

impl Gated {
    fn any(&self) -> bool {
        match self {
            Gated::All(gated) => *gated,
            Gated::Each(gated) => gated.contains(&true),
        }
    }

    fn at(&self, position: usize) -> bool {
        match self {
            Gated::All(gated) => *gated,
            Gated::Each(gated) => gated[position],
        }
    }
}

struct Gates {
    masking: Masking,
    /// By value: which of its channels are gated.
    of: Vec<Gated>,
    /// By value: whether it may be infinite or NaN where a channel is masked.
    poles: Vec<bool>,
}

impl Gates {
    fn operation(&mut self, recording: &Recording, operation: &Operation) {
        let operands = &operation.operands;
        let has_pole = operands.iter().any(|&operand| self.poles[operand]);
        // A pole is infinite where its operand is zero, a quotient where its divisor is.
        let at_zero = match operation.operator.gate {
            Gate::Pole => operands.first(),
            Gate::Dividend => operands.get(1),
            _ => None,
        };
        let is_pole = at_zero.is_some_and(|&operand| self.of[operand].any());
        self.poles[operation.result] = has_pole || is_pole;
        let gated = match (operation.operator.gate, &operation.operator.sources) {
            (Gate::Never | Gate::Pole, _) => Gated::All(false),
            (Gate::Always, _) => Gated::All(true),
            // Zero times infinity is not zero.
            _ if has_pole => Gated::All(false),
            (Gate::Dividend, _) => {
                let divides = |position| !self.of[operands[1]].at(position);
                let width = recording.values[operands[0]].len();
                let gated = |position| self.of[operands[0]].at(position) && divides(position);
                Gated::Each((0..width).map(gated).collect())
            }
            (Gate::First, Sources::Zip) => self.of[operands[0]].clone(),
            (_, Sources::New) => Gated::All(false),
            (_, Sources::Same | Sources::Broadcast) => self.of[operands[0]].clone(),
            (gate, Sources::Zip) => self.zip(recording, operands, gate == Gate::Any),
            (_, Sources::Concat) => self.concat(recording, operands),
            (_, Sources::Select(positions)) => match &self.of[operands[0]] {
                Gated::Each(gated) => Gated::Each(
                    positions.iter().map(|&position| gated[position as usize]).collect(),
                ),
                all => all.clone(),
            },
            (_, Sources::Blocks(size)) => match &self.of[operands[0]] {
                Gated::Each(gated) => {
                    let all = |block: &[bool]| block.iter().all(|&gated| gated);
                    Gated::Each(gated.chunks(*size).map(all).collect())
                }
                all => all.clone(),
            },
        };
        self.of[operation.result] = gated;
    }

    /// Gates of values that are joined position by position: a position is gated where any operand
    /// is, or where all are.
    fn zip(&self, recording: &Recording, operands: &[ValueId], any: bool) -> Gated {
        let (first, others) = (operands[0], &operands[1..]);
        let join = |a: bool, b: bool| if any { a || b } else { a && b };
        let joined = |a: &Gated, b: &Gated| match (a, b) {
            (Gated::All(a), Gated::All(b)) => Gated::All(join(*a, *b)),
            (a, b) => {
                let width = recording.values[first].len();
                Gated::Each((0..width).map(|i| join(a.at(i), b.at(i))).collect())
            }
        };
        others.iter().fold(self.of[first].clone(), |gated, &other| joined(&gated, &self.of[other]))
    }

    fn concat(&self, recording: &Recording, operands: &[ValueId]) -> Gated {
        let all = |wanted: bool| {
            let is =
                |&operand: &ValueId| matches!(self.of[operand], Gated::All(all) if all == wanted);
            operands.iter().all(is)
        };
        if all(true) || all(false) {
            return self.of[operands[0]].clone();
        }
        let each = operands.iter().flat_map(|&operand| {
            (0..recording.values[operand].len()).map(move |position| (operand, position))
        });
        Gated::Each(each.map(|(operand, position)| self.of[operand].at(position)).collect())
    }

    fn layer(&mut self, layer: &LayerNode) {
        let all_parameters = self.masking == Masking::Parameters;
        for result in &layer.results {
            let axis = &layer.axes[result.axis];
            let as_it_arrived = || match axis.role {
                AxisRole::Made => Gated::All(all_parameters && layer.makes_by_parameters()),
                _ => self.of[axis.value].clone(),
            };
            let passes_pole = axis.role != AxisRole::Made && self.poles[axis.value];
            let is_pole = match result.gate {
                LayerGate::Divide => all_parameters,
                LayerGate::Pole => self.of[axis.value].any(),
                _ => false,
            };
            self.poles[result.value] = passes_pole || is_pole;
            self.of[result.value] = match result.gate {
                _ if passes_pole || is_pole => Gated::All(false),
                LayerGate::Pass | LayerGate::Divide => as_it_arrived(),
                LayerGate::Shift if all_parameters => as_it_arrived(),
                LayerGate::Shift | LayerGate::Never | LayerGate::Pole => Gated::All(false),
                LayerGate::Always => Gated::All(true),
            };
        }
    }
}

struct KeptChannelGroups<'c> {
    channel_group: &'c [ChannelId],
    by_channel_group: Vec<Option<Rc<KeepReason>>>,
}

impl KeptChannelGroups<'_> {
    fn hold(&mut self, ids: &[ChannelId], reason: &KeepReason) {
        let reason = Rc::new(reason.clone());
        ids.iter().for_each(|&id| self.keep(id, &reason));
    }

    /// Holds the channels that are not gated, because the part at `by` reads them.
    fn ungated(&mut self, ids: &[ChannelId], gated: &Gated, by: &str) {
        if matches!(gated, Gated::All(true)) {
            return;
        }
        let reason = Rc::new(KeepReason::Ungated { by: by.to_owned() });
        for (position, &id) in ids.iter().enumerate() {
            if !gated.at(position) {
                self.keep(id, &reason);
            }
        }
    }

    fn keep(&mut self, id: ChannelId, reason: &Rc<KeepReason>) {
        self.by_channel_group[self.channel_group[id as usize] as usize]
            .get_or_insert_with(|| Rc::clone(reason));
    }
}
