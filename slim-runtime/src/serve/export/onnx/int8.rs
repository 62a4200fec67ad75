//! Which layers compute in 8 bits, and which values are quantised for them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::fold::{Folds, uses};
use super::lower::Refusal;
use super::quantise::Affine;
use crate::graph::{Argument, Call, ValueId};
use crate::numeric::Range;
use crate::serve::export::calibration::{Calibration, Paths, layer_of, tchs_own};
use crate::symbolic::{Program, Size};

/// The layers of a network that is written in 8 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Int8 {
    /// The field paths of the calls of layers that compute in 8 bits.
    pub layers: Vec<String>,
    /// The convolutions and linear layers that still compute in floats.
    pub floats: Vec<Float>,
}

/// A layer that still computes in floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Float {
    /// Its field path.
    pub path: String,
    /// Why, and the fix if there is one.
    pub reason: String,
}

/// Which calls compute in 8 bits, and which values are quantised.
#[derive(Default)]
pub(super) struct Plan {
    calls: HashSet<usize>,
    values: HashMap<ValueId, Affine>,
    /// The largest magnitude of a weight in integers.
    pub(super) levels: i64,
    pub(super) report: Option<Int8>,
}

impl Plan {
    /// Quantises each convolution and each linear layer whose ranges are known.
    ///
    /// ONNX Runtime makes one integer kernel of a convolution whose input, weight and output are
    /// quantised. The output is quantised behind its batch norm, which is folded, and behind a ReLU
    /// that alone reads it, which the quantisation then replaces: its range begins at 0. A linear
    /// layer may write floats.
    ///
    /// # Errors
    /// The calibration is of another network, or no layer can be quantised: the reason.
    pub(super) fn of(
        program: &Program,
        folds: &Folds,
        calibration: &Calibration,
        paths: &Paths,
        levels: i64,
    ) -> Result<Self, Refusal> {
        let ranges = Ranges::of(program, calibration, paths)?;
        let uses = uses(program);
        let mut plan = Plan { levels, ..Self::default() };
        let (mut layers, mut floats) = (Vec::new(), Vec::new());
        let mut wanted = BTreeSet::new();
        let used = program.used();
        for (index, call) in program.calls().iter().enumerate().filter(|(at, _)| used[*at]) {
            if !matches!(call.name, "conv" | "conv_transpose" | "linear") {
                continue;
            }
            let output = output(program, folds, &uses, call);
            match ranges.layer(program, index, output) {
                Ok(values) => {
                    wanted.extend(values);
                    plan.calls.insert(index);
                    layers.push(call.path.clone());
                }
                Err(reason) => floats.push(Float { path: call.path.clone(), reason }),
            }
        }
        if layers.is_empty() {
            return Err(match floats.first() {
                Some(Float { path, reason }) => {
                    format!("no layer can be written in 8 bits; the first is `{path}`: {reason}")
                }
                None => "it has neither convolutions nor linear layers, so nothing can be written in 8 bits; export it without `int8`".to_owned(),
            });
        }
        let affine = |id| Some((id, Affine::of(*ranges.values.get(&id)?)));
        plan.values = wanted.into_iter().filter_map(affine).collect();
        plan.share(program);
        plan.report = Some(Int8 { layers, floats });
        Ok(plan)
    }

    /// Gives the result of an operation that only selects or moves values the scale of its operand,
    /// so that it runs on the integers.
    fn share(&mut self, program: &Program) {
        for call in program.calls().iter().filter(|call| moves(call.name)) {
            let (Some(Argument::Value(input)), [result]) =
                (call.arguments.first(), &call.results[..])
            else {
                continue;
            };
            if let (Some(&affine), true) =
                (self.values.get(input), self.values.contains_key(result))
            {
                self.values.insert(*result, affine);
            }
        }
    }

    /// How a value is quantised; `None` if it is not.
    pub(super) fn value(&self, id: ValueId) -> Option<Affine> {
        self.values.get(&id).copied()
    }

    /// Whether a call computes in 8 bits.
    pub(super) fn has(&self, call: usize) -> bool {
        self.calls.contains(&call)
    }
}

/// Whether an operation's results are values of its operand.
fn moves(name: &str) -> bool {
    matches!(
        name,
        "max_pool"
            | "adaptive_max_pool"
            | "view"
            | "reshape"
            | "view_as"
            | "reshape_as"
            | "flatten"
            | "unflatten"
            | "permute"
            | "transpose"
            | "movedim"
            | "squeeze"
            | "squeeze_dim"
            | "unsqueeze"
            | "channels at"
            | "dropout"
    )
}

/// The value behind a layer that is quantised: behind the batch norm that is folded into it, and
/// behind a ReLU that alone reads it. `None` if that is an output of the network.
fn output(
    program: &Program,
    folds: &Folds,
    uses: &HashMap<ValueId, usize>,
    layer: &Call,
) -> Option<ValueId> {
    let mut value = *layer.results.first()?;
    for (index, call) in program.calls().iter().enumerate() {
        let reads = matches!(call.arguments.first(), Some(Argument::Value(id)) if *id == value);
        if reads && uses.get(&value) == Some(&1) && (folds.is_folded(index) || clip(call).is_some())
        {
            value = *call.results.first()?;
        }
    }
    (!program.outputs.contains(&value)).then_some(value)
}

/// The bounds of an operation that clips values.
fn clip(call: &Call) -> Option<[f64; 2]> {
    let number = |index: usize| match call.arguments.get(index) {
        Some(Argument::Number(number)) => Some(*number),
        _ => None,
    };
    match call.name {
        "relu" => Some([0., f64::INFINITY]),
        "relu6" => Some([0., 6.]),
        "clamp" => Some([number(1)?, number(2)?]),
        _ => None,
    }
}

/// The ranges of values, as far as they are known.
struct Ranges<'c> {
    calibration: &'c Calibration,
    /// By call of a layer: the path of its weight.
    weights: HashMap<usize, String>,
    values: HashMap<ValueId, Range>,
}

impl<'c> Ranges<'c> {
    fn of(program: &Program, calibration: &'c Calibration, paths: &Paths) -> Result<Self, Refusal> {
        let mut ranges = Ranges { calibration, weights: HashMap::new(), values: HashMap::new() };
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (index, call) in program.calls().iter().enumerate() {
            let Some(Argument::Tensor(weight)) = call.arguments.get(1) else { continue };
            let is_layer = matches!(call.name, "conv" | "conv_transpose" | "linear" | "batch_norm");
            let Some(path) = paths.of_tensor(weight).filter(|_| is_layer) else { continue };
            ranges.weights.insert(index, path.to_owned());
            let nth = counts.entry(path).or_default();
            if let Some(calls) = calibration.calls(path) {
                check_shape(path, &calls.shape, &weight.size())?;
                let seen = calls.ranges.get(*nth).copied();
                let [input, output] = seen.ok_or_else(|| other_count(path, calls.ranges.len()))?;
                if let Some(Argument::Value(id)) = call.arguments.first() {
                    ranges.add(*id, input);
                }
                if let [id] = call.results[..] {
                    ranges.add(id, output);
                }
            }
            *nth += 1;
        }
        for (path, calls) in calibration.all() {
            match counts.get(path) {
                None => {
                    return Err(format!(
                        "the calibration is of another network: this one does not apply `{path}`; record the calibration with this network, after slimming"
                    ));
                }
                Some(&count) if count != calls.ranges.len() => {
                    return Err(other_count(path, calls.ranges.len()));
                }
                Some(_) => {}
            }
        }
        ranges.follow(program);
        Ok(ranges)
    }

    fn add(&mut self, id: ValueId, range: Range) {
        let known = self.values.entry(id).or_insert(range);
        *known = known.with(range);
    }

    /// The ranges behind ReLUs and operations that select or move values, where nothing reported
    /// them.
    fn follow(&mut self, program: &Program) {
        for call in program.calls() {
            let (Some(Argument::Value(input)), [result]) =
                (call.arguments.first(), &call.results[..])
            else {
                continue;
            };
            let bounds =
                clip(call).or(moves(call.name).then_some([f64::NEG_INFINITY, f64::INFINITY]));
            let (Some([least, most]), Some(&range)) = (bounds, self.values.get(input)) else {
                continue;
            };
            self.values.entry(*result).or_insert_with(|| range.clipped(least, most));
        }
    }

    /// The values that are quantised for a layer, or the reason why it computes in floats.
    fn layer(
        &self,
        program: &Program,
        index: usize,
        output: Option<ValueId>,
    ) -> Result<Vec<ValueId>, String> {
        let call = &program.calls()[index];
        if call.name == "conv_transpose" {
            return Err("ONNX Runtime has no transposed convolution in 8 bits".to_owned());
        }
        let Some(path) = self.weights.get(&index) else {
            return Err(
                "its weight is a part of a tensor of the network, whose ranges are not recorded"
                    .to_owned(),
            );
        };
        if self.calibration.calls(path).is_none() {
            return Err(match self.calibration.drop_in(path) {
                Some(drop_in) => tchs_own(drop_in),
                None => format!(
                    "the calibration has no range for `{path}`; run the layer in the calibration"
                ),
            });
        }
        let Some(Argument::Value(input)) = call.arguments.first() else {
            return Err("its input is not a value of the network".to_owned());
        };
        if call.name == "linear" {
            return Ok(vec![*input]);
        }
        if pads_with_values(program, index) {
            return Err(
                "it pads by values of the image, which takes floats; pad with zeros".to_owned()
            );
        }
        let output = output.ok_or("its output is the network's, which stays in floats")?;
        if !self.values.contains_key(&output) {
            return Err(format!(
                "the range of its output is not known; use batch norms of `slim_runtime::nn` behind `{}`",
                layer_of(path)
            ));
        }
        Ok(vec![*input, output])
    }
}

/// Whether a convolution pads by something else than zeros.
fn pads_with_values(program: &Program, call: usize) -> bool {
    let is_constant = matches!(
        program.calls()[call].arguments.get(7),
        Some(Argument::Text(mode)) if mode != "constant"
    );
    let padding = program.numbers(call, 5).unwrap_or_default();
    is_constant && padding.iter().any(|&side| side != Size::Fixed(0))
}

fn check_shape(path: &str, calibrated: &[i64], own: &[i64]) -> Result<(), Refusal> {
    if calibrated == own {
        return Ok(());
    }
    Err(format!(
        "the calibration is of another network: `{path}` is {calibrated:?} there and {own:?} here; record the calibration with this network, after slimming"
    ))
}

fn other_count(path: &str, calibrated: usize) -> Refusal {
    format!(
        "the calibration called the layer of `{path}` {calibrated}×, and `forward` calls it otherwise; record the calibration with this `forward`"
    )
}
