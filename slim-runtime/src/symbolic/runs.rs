//! Repeated runs of a symbolic pass, which check that its result does not depend on the sizes that
//! `forward` is told.

use std::collections::{HashMap, HashSet};

use crate::error::WiringError;
use crate::graph::view::{Decider, Decisions};
use crate::graph::{LayerNode, Probe, Recording, Sources, Step, Tracer};
use crate::{Error, Prunable, Result};

/// Factors that multiply numbers of channels, so that these differ from numbers that `forward`
/// writes out: primes, because hardly any written-out number is a multiple of them. They are small,
/// so that a list with a number for each channel and position fits in memory.
pub(super) const SCALES: [i64; 2] = [109, 113];

/// Sizes of the position dimensions of an input whose shape is not given: even; odd; high; wide.
/// They are small, for lists with a number for each pair of positions.
const POSITIONS: [[i64; 3]; 4] = [[96, 80, 48], [97, 81, 49], [320, 32, 32], [32, 320, 32]];

/// Sizes for forward passes that take only square images: 32 · 11, so that no product of powers of
/// two that is written out, such as 64 · 8 · 8, is a number of positions.
const SQUARE: [i64; 3] = [352, 352, 352];

/// Sizes for another run on square images: 32 · 13.
const OTHER_SQUARE: [i64; 3] = [416, 416, 416];

const SAMPLES: i64 = 3;

/// Runs the symbolic pass of a whole model. `shapes` are the shapes of its inputs, if a sample
/// gives them; `is_slimmed` says whether the model has just been slimmed.
///
/// A `forward` that asks for no sizes is run once for evaluation and once for training. A `forward`
/// that asks for sizes is also run with other sizes, and with the true numbers of channels; all
/// runs must do the same.
///
/// # Errors
/// The errors of [`Prunable::trace`]; [`WiringError::Layer`](crate::error::WiringError::Layer) for
/// layers that no run applies, and when runs differ.
pub(crate) fn record<M: Prunable + ?Sized>(
    model: &M,
    shapes: Option<&[Vec<i64>]>,
    is_slimmed: bool,
) -> Result<Recording> {
    let run = |probe: Probe, known: Option<Decisions>| {
        let mut cx = Tracer::with_probe(probe);
        cx.decider = Decider::new(known, is_slimmed);
        let input = cx.open_shaped(shapes);
        let output = model.trace(&mut cx, input)?;
        let evaluation = cx.recording.steps.len();
        let mut recording = cx.finish(&output);
        recording.shapes = shapes.map(<[_]>::to_vec);
        recording.evaluation = evaluation;
        Ok(recording)
    };
    // Records evaluation and training in one recording.
    let run_both = |probe: Probe, known: Option<Decisions>| {
        let mut cx = Tracer::with_probe(probe);
        cx.decider = Decider::new(known, is_slimmed);
        let input = cx.open_shaped(shapes);
        let evaluated = model.trace(&mut cx, input.clone())?;
        let (count, evaluation) = (cx.recording.layers.len(), cx.recording.steps.len());
        cx.probe.train = true;
        let trained = model.trace(&mut cx, input)?;
        cx.keep_outputs(&trained);
        let mut both = cx.finish(&evaluated);
        both.shapes = shapes.map(<[_]>::to_vec);
        both.evaluation = evaluation;
        both.hide_repeated(count);
        Ok::<_, Error>(both)
    };
    let [scale, other_scale] = SCALES;
    let probe =
        Probe { scale, batch: SAMPLES, positions: POSITIONS[0], train: false, ..Probe::default() };
    let (mut recording, mut probe) = match run(probe, None) {
        Ok(recording) => (recording, probe),
        // A `forward` may take square images only.
        Err(error @ Error::Forward { .. } | error @ Error::Wiring(WiringError::Layer { .. })) => {
            let square = Probe { positions: SQUARE, ..probe };
            (run(square, None).map_err(|_| error)?, square)
        }
        Err(error) => return Err(error),
    };
    if !recording.is_forward {
        return Ok(recording);
    }
    if let Some(options) = recording.options().filter(|&options| options != probe.options)
        && recording.asked.options
    {
        probe.options = options;
        recording = run(probe, None)?;
    }
    let asks_sizes = !recording.asked.sizes.is_empty();
    if asks_sizes {
        // The true numbers of channels, for the numbers that `forward` computes from them.
        let known = std::mem::take(&mut recording.decisions);
        let numbers = run(Probe { scale: 1, ..probe }, Some(known))?;
        if let Some(difference) = difference(&recording, &numbers, false) {
            return Err(on_width(&difference));
        }
        let odd =
            Probe { scale: other_scale, batch: SAMPLES + 1, positions: POSITIONS[1], ..probe };
        let scaled = run(odd, None).or_else(|_| run(Probe { scale: other_scale, ..probe }, None));
        if let Some(difference) = difference(&recording, &scaled?, false) {
            return Err(on_size(&difference));
        }
        let is_square = probe.positions == SQUARE;
        let others = if is_square { &[OTHER_SQUARE][..] } else { &POSITIONS[2..] };
        for positions in others {
            let resized = Probe { batch: SAMPLES + 2, positions: *positions, ..probe };
            // Sizes that the network cannot take show nothing.
            let Ok(resized) = run(resized, None) else { continue };
            if let Some(difference) = difference(&recording, &resized, true) {
                return Err(on_size(&difference));
            }
        }
        if let Ok(one) = run(Probe { batch: 1, ..probe }, None)
            && let Some((many, one)) = other_operation(&recording, &one)
        {
            let reason = format!(
                "its `forward` does {many}, and for one sample {one}; do the same for any number of samples"
            );
            return Err(Error::Wiring(WiringError::Layer { path: "model".to_owned(), reason }));
        }
        recording.take_numbers(&numbers, probe.scale);
    }
    if !recording.knows_shapes {
        recording.size_questions = recording.asked.without_use();
    }
    let training = run(Probe { train: true, ..probe }, None)?;
    let never: Vec<_> =
        recording.unused.iter().filter(|path| training.unused.contains(path)).cloned().collect();
    if !never.is_empty() {
        let names = never.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        let reason = format!(
            "its `forward` never applies {names}; apply it, or write `#[prune(skip)]` on the field if it is not part of the network"
        );
        return Err(Error::Wiring(WiringError::Layer { path: "model".to_owned(), reason }));
    }
    if difference(&recording, &training, false).is_some() {
        let mut both = run_both(probe, None)?;
        both.size_questions = std::mem::take(&mut recording.size_questions);
        if asks_sizes {
            let known = std::mem::take(&mut both.decisions);
            let numbers = run_both(Probe { scale: 1, ..probe }, Some(known))?;
            both.take_numbers(&numbers, probe.scale);
        }
        return Ok(both);
    }
    Ok(recording)
}

/// The first difference between two runs.
struct Difference {
    /// The first step that differs, or the number of steps if only the outputs differ.
    step: usize,
    /// What each run does at the difference.
    does: [String; 2],
}

impl Difference {
    fn error(&self, why: &str, fix: &str) -> Error {
        let Self { does: [a, b], .. } = self;
        let reason =
            format!("its `forward` depends on {why}: it does {a} for some, {b} for others; {fix}");
        Error::Wiring(WiringError::Layer { path: "model".to_owned(), reason })
    }
}

fn on_size(difference: &Difference) -> Error {
    difference.error(
        "the size of its input",
        "write the shape of your images on the struct, as in `#[prune(input = [3, 224, 224])]`, or plan on a sample with `plan_on`",
    )
}

fn on_width(difference: &Difference) -> Error {
    difference.error(
        "numbers of channels that it asks for",
        "those change when the network is slimmed; make it depend on something that does not",
    )
}

/// The first difference between two runs; `numbers` says whether the numbers that operations are
/// given are compared.
fn difference(a: &Recording, b: &Recording, numbers: bool) -> Option<Difference> {
    let steps = a.steps.len().max(b.steps.len());
    (0..steps)
        .find_map(|index| {
            let (x, y) = (a.steps.get(index), b.steps.get(index));
            let same = match (x, y) {
                (Some(x), Some(y)) => a.is_same_step(x, b, y, numbers),
                _ => false,
            };
            let does = |recording: &Recording, step: Option<&Step>| {
                step.map_or_else(|| "nothing more".to_owned(), |step| recording.describe(step))
            };
            (!same).then(|| {
                let mut does = [does(a, x), does(b, y)];
                if let (true, Some(Step::Operation(x)), Some(Step::Operation(y))) =
                    (does[0] == does[1], x, y)
                {
                    for (does, operation) in does.iter_mut().zip([x, y]) {
                        *does += &format!(" by {:?}", operation.numbers);
                    }
                }
                Difference { step: index, does }
            })
        })
        .or_else(|| {
            let does = ["return one tensor".to_owned(), "another".to_owned()];
            (a.outputs != b.outputs).then_some(Difference { step: steps, does })
        })
}

/// The first operations of two runs that differ in name or source location. A run with one sample
/// cannot be compared any further: a dimension of size one can be read in several ways.
fn other_operation(a: &Recording, b: &Recording) -> Option<(String, String)> {
    let what = |recording: &Recording| -> Vec<String> {
        let is_done = |step: &&Step| !matches!(step, Step::Hold(..) | Step::Sum(..));
        recording.steps.iter().filter(is_done).map(|step| recording.describe(step)).collect()
    };
    let (a, b) = (what(a), what(b));
    let nothing = || "nothing more".to_owned();
    let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at))?;
    let of = |all: &[String]| all.get(at).cloned().unwrap_or_else(nothing);
    Some((of(&a), of(&b)))
}

/// The first step at which two recordings of one model with the same sizes differ. There is none,
/// unless `forward` draws random numbers.
pub(crate) fn first_difference(a: &Recording, b: &Recording) -> Option<usize> {
    let contents = |step: Option<&Step>| match step {
        Some(Step::Operation(operation)) => operation.contents.clone(),
        _ => Box::default(),
    };
    let constant =
        (0..a.steps.len()).find(|&step| contents(a.steps.get(step)) != contents(b.steps.get(step)));
    let step = difference(a, b, true).map(|difference| difference.step);
    constant.into_iter().chain(step).min()
}

impl Recording {
    /// Describes a step and its source location.
    pub(crate) fn describe(&self, step: &Step) -> String {
        match step {
            Step::Operation(operation) => {
                let at = operation.at;
                let at = at.map(|at| format!(" at {}:{}:{}", at.file(), at.line(), at.column()));
                format!("`{}`{}", operation.operator.name, at.unwrap_or_default())
            }
            Step::Layer(layer) => format!("`{}`", self.layer(*layer).path),
            Step::Hold(..) => "an operation that keeps channels".to_owned(),
            Step::Sum(..) => "a sum over channels".to_owned(),
        }
    }

    fn is_same_step(&self, step: &Step, other: &Recording, twin: &Step, numbers: bool) -> bool {
        match (step, twin) {
            (Step::Operation(a), Step::Operation(b)) => {
                let widths = self.values[a.result].len() == other.values[b.result].len();
                let sources = match (&a.operator.sources, &b.operator.sources) {
                    (Sources::Select(a), Sources::Select(b)) => a == b,
                    (Sources::Blocks(a), Sources::Blocks(b)) => a == b,
                    (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
                };
                a.operator.name == b.operator.name
                    && a.operands == b.operands
                    && a.at == b.at
                    && widths
                    && sources
                    && (!numbers || a.has_numbers_of(b))
            }
            (Step::Layer(a), Step::Layer(b)) => {
                let (a, b) = (self.layer(*a), other.layer(*b));
                a.path == b.path && a.kind == b.kind && a.arrivals == b.arrivals
            }
            (Step::Hold(a, _), Step::Hold(b, _)) => a.len() == b.len(),
            (Step::Sum(a, _), Step::Sum(b, _)) => a == b,
            _ => false,
        }
    }

    /// Copies the numbers and sizes that operations are given from a run with the true numbers of
    /// channels. A result size that differs there and is a multiple of `scale` here follows
    /// channels, and is dropped, because it changes with them.
    fn take_numbers(&mut self, other: &Recording, scale: i64) {
        for (step, twin) in self.steps.iter_mut().zip(&other.steps) {
            if let (Step::Operation(own), Step::Operation(twin)) = (step, twin) {
                own.numbers.clone_from(&twin.numbers);
                own.contents.clone_from(&twin.contents);
                own.sizes.clone_from(&twin.sizes);
                let pairs = own.result_sizes.iter().zip(&twin.result_sizes);
                let stays = |&(&own, &twin): &(&i64, &i64)| own == twin || own % scale != 0;
                own.result_sizes = pairs.filter(stays).map(|(_, &twin)| twin).collect();
            }
        }
    }

    /// Hides the layers of a second run, from index `count` on, that the first run has too. Their
    /// dependencies between channels stay.
    fn hide_repeated(&mut self, count: usize) {
        let known: HashSet<(String, String)> = self.layers[..count].iter().map(identity).collect();
        let mut moved_to: HashMap<usize, usize> = (0..count).map(|index| (index, index)).collect();
        let (mut shown, mut hidden) = (Vec::new(), Vec::new());
        for (index, layer) in std::mem::take(&mut self.layers).into_iter().enumerate() {
            if index < count || !known.contains(&identity(&layer)) {
                moved_to.insert(index, shown.len());
                shown.push(layer);
            } else {
                hidden.push((index, layer));
            }
        }
        let shown_count = shown.len();
        for (position, (index, layer)) in hidden.into_iter().enumerate() {
            moved_to.insert(index, shown_count + position);
            self.hidden.push(layer);
        }
        self.layers = shown;
        let moved = |index: &mut usize| *index = moved_to.get(index).copied().unwrap_or(*index);
        for step in &mut self.steps {
            if let Step::Layer(index) = step {
                moved(index);
            }
        }
        for layer in self.layers.iter_mut().chain(&mut self.hidden) {
            for tied in layer.tensors.iter_mut().filter_map(|tensor| tensor.tied.as_mut()) {
                moved(&mut tied.0);
            }
        }
    }
}

fn identity(layer: &LayerNode) -> (String, String) {
    (layer.path.clone(), layer.kind.to_string())
}
