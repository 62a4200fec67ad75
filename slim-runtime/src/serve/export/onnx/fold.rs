//! Batch norms that are folded into the layer in front of them.

use std::collections::{HashMap, HashSet};

use tch::TchError;

use crate::graph::{Argument, Call, ValueId};
use crate::serve::deploy::fold;
use crate::serve::deploy::form::{Norm, Weights};
use crate::symbolic::{Program, Size};

/// Which batch norms are folded.
#[derive(Default)]
pub(super) struct Folds {
    /// The weights with the batch norm behind them, by the call of a layer.
    into: HashMap<usize, Weights>,
    /// Calls of batch norms that are folded.
    folded: HashSet<usize>,
}

impl Folds {
    /// Folds each batch norm that alone reads the output of a convolution, a transposed convolution
    /// or a linear layer.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(super) fn of(program: &Program) -> Result<Self, TchError> {
        let calls = program.calls();
        let uses = uses(program);
        let makers: HashMap<ValueId, usize> = calls
            .iter()
            .enumerate()
            .filter(|(_, call)| matches!(call.name, "conv" | "conv_transpose" | "linear"))
            .flat_map(|(index, call)| call.results.iter().map(move |&id| (id, index)))
            .collect();
        let mut folds = Self::default();
        for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.name == "batch_norm")
        {
            let Some(Argument::Value(input)) = call.arguments.first() else { continue };
            let Some(&maker) = makers.get(input).filter(|_| uses.get(input) == Some(&1)) else {
                continue;
            };
            // A linear layer over positions has its channels elsewhere.
            if calls[maker].name == "linear" && program.rank(*input) != Some(2) {
                continue;
            }
            if let Some(weights) = folded(program, maker, call)? {
                folds.into.insert(maker, weights);
                folds.folded.insert(index);
            }
        }
        Ok(folds)
    }

    /// The number of batch norms that are folded.
    pub(super) fn count(&self) -> usize {
        self.folded.len()
    }

    /// Whether a call is of a batch norm that is folded.
    pub(super) fn is_folded(&self, call: usize) -> bool {
        self.folded.contains(&call)
    }

    /// The weights of the layer that a call applies, if a batch norm is folded into it.
    pub(super) fn weights_of(&self, call: usize) -> Option<&Weights> {
        self.into.get(&call)
    }
}

/// How often calls and outputs of the network read each value.
pub(super) fn uses(program: &Program) -> HashMap<ValueId, usize> {
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    let used =
        program.calls().iter().flat_map(|call| &call.arguments).flat_map(Argument::values).copied();
    for id in used.chain(program.outputs.iter().copied()) {
        *uses.entry(id).or_default() += 1;
    }
    uses
}

/// The weights of a layer with a batch norm. `None` if the batch norm's ε is not known.
fn folded(program: &Program, maker: usize, norm: &Call) -> Result<Option<Weights>, TchError> {
    let tensor = |call: &Call, index: usize| match call.arguments.get(index) {
        Some(Argument::Tensor(tensor)) => Some(tensor.shallow_clone()),
        _ => None,
    };
    let layer = &program.calls()[maker];
    let (Some(weight), Some(mean), Some(variance), Some(Argument::Number(eps))) =
        (tensor(layer, 1), tensor(norm, 1), tensor(norm, 2), norm.arguments.get(5))
    else {
        return Ok(None);
    };
    let groups = match program.numbers(maker, 3).as_deref() {
        Some(&[Size::Fixed(groups)]) => groups,
        _ => 1,
    };
    let transposed = (layer.name == "conv_transpose").then_some(groups);
    let layer = Weights { weight, bias: tensor(layer, 2), packed: None };
    let affine = [tensor(norm, 3), tensor(norm, 4)];
    let norm = Norm { statistics: [mean, variance], affine, folded: false };
    fold::folded(&layer, transposed, &norm, *eps).map(Some)
}
