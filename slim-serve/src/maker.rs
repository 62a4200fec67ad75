//! Compiles a network for a shape: tries its forms, compares and measures them.

use std::fs;
use std::time::{Duration, Instant};

use slim_runtime::__private::ExpectedOutput;
use slim_runtime::export::{self, Batch};
use slim_runtime::{Benchmark, OutputError, Prunable, Quartiles};
use tch::{Device, Kind, TchError, Tensor};

use crate::compiled::Compiled;
use crate::ffi::{Network, Program};
use crate::form::Form;
use crate::report::{FormTrial, ShapeReport};
use crate::{Error, Result};

/// Another form is chosen only if its latency is below this share of the folded one's: a smaller
/// gain is noise. As in `deploy`.
const WORTH_IT: f64 = 0.97;

/// Least and most number of rounds in which the forms are measured in turn.
const ROUNDS: (f64, f64) = (5., 25.);

/// A network as TorchScript, and the shapes that it is right for.
#[derive(Debug)]
pub(crate) struct Trace {
    network: Network,
    /// The shape of the input on which it was traced; empty for a file.
    shape: Vec<i64>,
    scope: Scope,
}

/// Which dimensions of an input may differ from those of the traced one.
#[derive(Debug)]
enum Scope {
    /// Those that are marked; with the reason why the batch is not.
    Only {
        free: Vec<bool>,
        why_not: String,
    },
    All,
}

impl Trace {
    /// # Errors
    /// Those of `export::torch_script`.
    pub(crate) fn of<M: Prunable + ?Sized>(
        net: &M,
        input: &Tensor,
        forward: &impl Fn(&M, &Tensor) -> Tensor,
    ) -> Result<Self> {
        let io = |cause| slim_runtime::Error::Io {
            file: std::env::temp_dir(),
            action: "make a temporary folder in it",
            cause,
        };
        let folder = tempfile::tempdir().map_err(io)?;
        let file = folder.path().join("network.pt");
        let batch = export::torch_script(&file, net, input, forward)?.batch;
        let read = |reason: String| Error::File { file: file.clone(), reason };
        let bytes = fs::read(&file).map_err(|error| read(error.to_string()))?;
        let network = Network::load(&bytes).map_err(read)?;
        let shape = input.size();
        let mut free = vec![false; shape.len()];
        let why_not = match batch {
            Batch::Any => {
                free[0] = true;
                String::new()
            }
            Batch::Only { why, .. } => why,
            _ => "the network itself does not take twice the sample".to_owned(),
        };
        Ok(Self { network, shape, scope: Scope::Only { free, why_not } })
    }

    /// A file that is right for whatever it runs on.
    pub(crate) fn any(network: Network) -> Self {
        Self { network, shape: Vec::new(), scope: Scope::All }
    }

    fn covers(&self, shape: &[i64]) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Only { free, .. } => {
                shape.len() == free.len()
                    && self.shape.iter().zip(shape).zip(free).all(|((a, b), free)| a == b || *free)
            }
        }
    }
}

/// Makes the programs of a runner.
#[derive(Debug)]
pub(crate) struct Maker {
    /// In the shape that other samples are cut and repeated from.
    sample: Tensor,
    traces: Vec<Trace>,
    patience: Duration,
    /// The form that was chosen for the first shape, for shapes that are not measured.
    usual: Form,
}

/// A form that has been run.
struct Candidate {
    form: Form,
    /// The program, or why the form is out.
    tried: Result<Tried, String>,
}

struct Tried {
    program: Program,
    error: OutputError,
    /// Time to compile, with the first run.
    compiling: Duration,
    /// Time of a later run.
    run: Duration,
}

impl Maker {
    pub(crate) fn new(sample: &Tensor, patience: Duration) -> Result<Self> {
        // The network's own sample must not change with the caller's.
        let mut own = sample.f_detach().and_then(|sample| sample.f_empty_like()).map_err(torch)?;
        tch::no_grad(|| own.f_copy_(sample)).map_err(torch)?;
        let sample = own.f_contiguous().map_err(torch)?;
        Ok(Self { sample, traces: Vec::new(), patience, usual: Form::Folded })
    }

    pub(crate) fn place(&self) -> (Kind, Device) {
        (self.sample.kind(), self.sample.device())
    }

    /// The sample, cut and repeated to a shape of as many dimensions.
    pub(crate) fn input(&self, shape: &[i64]) -> Result<Tensor> {
        let cut = |input: Tensor, (dim, &size): (usize, &i64)| {
            let own = input.size()[dim];
            if own == size || own == 0 {
                return Ok(input);
            }
            let index = Tensor::f_arange(size, (Kind::Int64, input.device()))?.f_remainder(own)?;
            input.f_index_select(dim as i64, &index)
        };
        shape.iter().enumerate().try_fold(self.sample.shallow_clone(), cut).map_err(torch)
    }

    pub(crate) fn covers(&self, shape: &[i64]) -> bool {
        self.trace(shape).is_some()
    }

    fn trace(&self, shape: &[i64]) -> Option<&Trace> {
        // The trace of the shape itself, if there is one.
        let own = self.traces.iter().find(|trace| trace.shape == shape);
        own.or_else(|| self.traces.iter().find(|trace| trace.covers(shape)))
    }

    /// Adds a trace. If it is that of another shape, the dimensions in which the shapes differ are
    /// free.
    pub(crate) fn add(&mut self, new: Trace) {
        match self.traces.iter_mut().find(|old| old.network.is_same(&new.network)) {
            Some(old) => {
                if let Scope::Only { free, .. } = &mut old.scope {
                    let sizes = old.shape.iter().zip(&new.shape);
                    for (free, (a, b)) in free.iter_mut().zip(sizes) {
                        *free |= a != b;
                    }
                }
            }
            None => self.traces.push(new),
        }
    }

    /// Compiles for a shape that was asked for, and measures the forms together with the network.
    pub(crate) fn compare_with_network<M: Prunable + ?Sized>(
        &mut self,
        shape: &[i64],
        net: &M,
        input: &Tensor,
        run: &impl Fn(&Tensor) -> Tensor,
    ) -> Result<Compiled> {
        let expected = ExpectedOutput::of_network(net, input, |_, input| run(input))?;
        self.choose(shape, input, &expected, Some(&|| run(input)))
    }

    /// Compiles for a shape that was asked for, where there is only a file.
    pub(crate) fn measured(&mut self, shape: &[i64]) -> Result<Compiled> {
        let input = self.input(shape)?;
        let expected = self.expected(shape, &input)?;
        self.choose(shape, &input, &expected, None)
    }

    /// Compiles for a shape that is seen first when it is run: in the form that is usual, which is
    /// compared and not measured.
    pub(crate) fn unmeasured(&self, shape: &[i64]) -> Result<Compiled> {
        self.network(shape)?;
        if shape.len() != self.sample.dim() {
            let reason = format!("the sample has {} dimensions", self.sample.dim());
            return Err(Error::Compile { shape: shape.to_owned(), reason });
        }
        let input = self.input(shape)?;
        let expected = self.expected(shape, &input)?;
        let mut candidates = Vec::new();
        for form in [self.usual, Form::Folded, Form::Traced] {
            candidates.push(self.candidate(form, shape, &input, &expected)?);
            if candidates.last().is_some_and(|candidate| candidate.tried.is_ok()) {
                break;
            }
        }
        let chosen = candidates.len() - 1;
        self.compiled(shape, candidates, chosen, None)
    }

    /// What the trace computes, operation by operation.
    fn expected(&self, shape: &[i64], input: &Tensor) -> Result<ExpectedOutput> {
        let program = self.network(shape)?.compile(Form::Traced, input);
        let output = program
            .and_then(|program| program.run(input))
            .map_err(|reason| Error::Compile { shape: shape.to_owned(), reason })?;
        Ok(ExpectedOutput::of_output(&output)?)
    }

    fn network(&self, shape: &[i64]) -> Result<&Network> {
        if let Some(trace) = self.trace(shape) {
            return Ok(&trace.network);
        }
        let first = self.traces.first();
        let reason = match first.map(|trace| (&*trace.shape, &trace.scope)) {
            Some(([_, sides @ ..], Scope::Only { why_not, .. }))
                if shape.len() == sides.len() + 1 && sides == &shape[1..] =>
            {
                format!(
                    "the trace of {:?} is for that batch alone ({why_not}); ask for this one by `RunnerConfig::batches`",
                    first.map(|trace| &*trace.shape).unwrap_or_default()
                )
            }
            _ => format!(
                "the sample has shape {:?}, and other sizes than the batch's are served only if they are asked for: `RunnerConfig::input({shape:?})`",
                self.sample.size()
            ),
        };
        Err(Error::Compile { shape: shape.to_owned(), reason })
    }

    fn choose(
        &mut self,
        shape: &[i64],
        input: &Tensor,
        expected: &ExpectedOutput,
        network: Option<&dyn Fn() -> Tensor>,
    ) -> Result<Compiled> {
        let candidates = Form::ALL
            .into_iter()
            .map(|form| self.candidate(form, shape, input, expected))
            .collect::<Result<Vec<_>>>()?;
        let times = self.measure(input, &candidates, network)?;
        // Other load only ever adds time, so the lower quartile is chosen by: with cores that are
        // busy, the medians of a few rounds are chance.
        let fast = |index: &usize| times.forms[*index].map_or(f64::INFINITY, |time| time.lower);
        let all = || (0..candidates.len()).filter(|&index| candidates[index].tried.is_ok());
        let plain = all().find(|&index| candidates[index].form == Form::Folded);
        let plain = plain.or_else(|| all().next());
        let limit = plain.map_or(f64::INFINITY, |plain| WORTH_IT * fast(&plain));
        let fastest = all().min_by(|a, b| fast(a).total_cmp(&fast(b)));
        let chosen = fastest.filter(|fastest| fast(fastest) < limit).or(plain);
        let compiled = self.compiled(shape, candidates, chosen.unwrap_or(0), Some(times))?;
        if shape == self.sample.size() {
            self.usual = compiled.report().form;
        }
        Ok(compiled)
    }

    /// Compiles a form and runs it.
    fn candidate(
        &self,
        form: Form,
        shape: &[i64],
        input: &Tensor,
        expected: &ExpectedOutput,
    ) -> Result<Candidate> {
        let network = self.network(shape)?;
        let cpu_alone = matches!(form, Form::Packed | Form::Fused);
        let tried = if cpu_alone && input.device() != Device::Cpu {
            Err("it is for the CPU".to_owned())
        } else {
            tried(network, form, input, expected)
        };
        Ok(Candidate { form, tried })
    }

    /// Measures the forms that are right, and the network, in turn.
    fn measure(
        &self,
        input: &Tensor,
        candidates: &[Candidate],
        network: Option<&dyn Fn() -> Tensor>,
    ) -> Result<Times> {
        let right: Vec<_> =
            candidates.iter().filter_map(|candidate| candidate.tried.as_ref().ok()).collect();
        let round: Duration = right.iter().map(|tried| tried.run).sum();
        let rounds = (self.patience.as_secs_f64() / round.as_secs_f64()).clamp(ROUNDS.0, ROUNDS.1);
        let benchmark = Benchmark::new().device(input.device()).warm_up(Duration::ZERO);
        let mut in_turn = benchmark.runs(rounds as usize).in_turn();
        for tried in &right {
            in_turn = in_turn.case("", || tried.program.run(input));
        }
        if let Some(network) = network {
            in_turn = in_turn.case("", network);
        }
        let compared = in_turn.run()?;
        let mut measured = compared.rounds.into_iter();
        let forms: Vec<_> = candidates
            .iter()
            .map(|candidate| candidate.tried.as_ref().ok().and_then(|_| measured.next()))
            .collect();
        Ok(Times::of(forms, measured.next()))
    }

    fn compiled(
        &self,
        shape: &[i64],
        mut candidates: Vec<Candidate>,
        chosen: usize,
        times: Option<Times>,
    ) -> Result<Compiled> {
        let trials = candidates.iter().enumerate().map(|(index, candidate)| FormTrial {
            form: candidate.form,
            latency: times.as_ref().and_then(|times| times.forms[index]),
            out: candidate.tried.as_ref().err().cloned(),
        });
        let forms: Vec<_> = trials.collect();
        let Candidate { form, tried } = candidates.swap_remove(chosen);
        let Tried { program, error, compiling, .. } = tried.map_err(|_| {
            let reasons: Vec<_> = forms
                .iter()
                .filter_map(|trial| Some(format!("{}: {}", trial.form, trial.out.as_ref()?)))
                .collect();
            Error::Compile { shape: shape.to_owned(), reason: reasons.join("; ") }
        })?;
        // A fused program checks the shapes of its values, and fails if they depend on the values
        // of the input.
        let plain = match form {
            Form::Fused => self.network(shape)?.compile(Form::Folded, &self.sample).ok(),
            _ => None,
        };
        let report = ShapeReport {
            shape: shape.to_owned(),
            form,
            forms,
            network: times.as_ref().and_then(|times| times.network),
            times_as_fast: times.as_ref().and_then(|times| times.ratio(chosen)),
            difference: error.difference,
            magnitude: error.magnitude,
            compiling: compiling.as_secs_f64(),
            runs: 0,
            fallbacks: 0,
        };
        Ok(Compiled::new(program, plain, report))
    }
}

/// The times of the forms of a network.
struct Times {
    forms: Vec<Option<Quartiles>>,
    network: Option<Quartiles>,
    /// Per form: how many times as fast as the network, in each round.
    ratios: Vec<Option<Quartiles>>,
}

impl Times {
    fn of(forms: Vec<Option<Vec<f64>>>, network: Option<Vec<f64>>) -> Self {
        let ratio = |times: &Option<Vec<f64>>| {
            let rounds = network.as_ref()?.iter().zip(times.as_ref()?);
            Some(Quartiles::of(&rounds.map(|(network, own)| network / own).collect::<Vec<_>>()))
        };
        let quartiles = |times: &Option<Vec<f64>>| times.as_deref().map(Quartiles::of);
        Self {
            ratios: forms.iter().map(ratio).collect(),
            forms: forms.iter().map(quartiles).collect(),
            network: quartiles(&network),
        }
    }

    fn ratio(&self, form: usize) -> Option<Quartiles> {
        self.ratios[form]
    }
}

/// Compiles a form, runs it twice, and compares its output.
fn tried(
    network: &Network,
    form: Form,
    input: &Tensor,
    expected: &ExpectedOutput,
) -> Result<Tried, String> {
    let start = Instant::now();
    let program = network.compile(form, input)?;
    let first = program.run(input)?;
    let compiling = start.elapsed();
    let first = expected.compare(&first)?;
    let start = Instant::now();
    let second = program.run(input)?;
    let run = start.elapsed();
    let second = expected.compare(&second)?;
    let error = if first.difference > second.difference { first } else { second };
    Ok(Tried { program, error, compiling, run })
}

fn torch(cause: TchError) -> Error {
    Error::Network(slim_runtime::Error::Torch {
        context: "the sample".to_owned(),
        cause: slim_runtime::error::LibtorchError(cause),
    })
}
