//! One symbolic run of a `forward`.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use super::Traced;
use super::memory::ViewOf;
use crate::error::WiringError;
use crate::graph::parts::Parts;
use crate::graph::{FlowKind, Form, Tracer, Value};
use crate::panics;
use crate::{Error, Flow, Prunable, Result};

/// A forward pass that can be run symbolically. [`#[forward]`](crate::forward) implements it.
#[diagnostic::on_unimplemented(
    message = "nothing says how data flows through `{Self}`",
    label = "its wiring is not known",
    note = "to read it from `forward`, write `#[slim_runtime::forward]` above `impl ModuleT for {Self}`, or `impl Module`, or the `impl` whose `forward_t` or `forward` takes `&self` and tensors",
    note = "to declare it by the order of the fields, write `#[prune(sequential)]` on `{Self}`"
)]
pub trait Forward: ReadsForward {
    /// The number of input tensors.
    const INPUTS: usize;

    /// Runs the forward pass on symbolic tensors.
    #[doc(hidden)]
    fn symbolic_forward(&self, inputs: &[Traced], train: bool) -> Vec<Traced>;
}

/// A type whose `Prunable` reads its [`Forward`]. `#[derive(Prunable)]` implements this trait
/// unless the wiring is declared.
#[diagnostic::on_unimplemented(
    message = "`Prunable` of `{Self}` does not read this forward pass",
    label = "`#[forward]` is read by nothing",
    note = "write `#[derive(Prunable)]` on `{Self}`, without `#[prune(sequential)]`; or remove `#[forward]`"
)]
pub trait ReadsForward {}

thread_local! {
    /// The symbolic runs in progress, the innermost last.
    static RUNS: RefCell<Vec<Rc<Run>>> = const { RefCell::new(Vec::new()) };
}

struct Run {
    tracer: RefCell<Tracer>,
    /// The first error.
    error: RefCell<Option<Error>>,
    handed: RefCell<Handed>,
}

/// The input and output tensors of the layer that is being applied, so that the layer's `forward`
/// works on the same memory.
#[derive(Default)]
struct Handed {
    given: Option<Traced>,
    /// The tensor that the last traced `forward` inside the layer returned.
    returned: Option<Traced>,
}

/// Applies a layer to a tensor. A traced `forward` inside the layer sees the tensor's memory: if it
/// returns the tensor or a view of it, so does this function.
pub(super) fn handing(given: &Traced, apply: impl FnOnce() -> Traced) -> Traced {
    let Some(run) = RUNS.with_borrow(|runs| runs.last().map(Rc::clone)) else { return apply() };
    run.handed.replace(Handed { given: Some(given.shallow_clone()), returned: None });
    let result = apply();
    let Handed { returned, .. } = run.handed.take();
    let Some(flow) = result.flow() else { return result };
    match returned.filter(|returned| returned.is(&flow)) {
        Some(returned) => {
            returned.memory.set(Some(flow));
            returned
        }
        // The layer may return its input itself, or a copy.
        None if given.is(&flow) => given.viewed(result, ViewOf::Some),
        None => result,
    }
}

/// The tensor that holds a layer's input, if the layer around it was given that tensor or has
/// returned it.
fn handed(input: &Flow) -> Option<Traced> {
    let run = RUNS.with_borrow(|runs| runs.last().map(Rc::clone))?;
    let handed = run.handed.borrow();
    let known = [&handed.returned, &handed.given].into_iter().flatten();
    known.filter(|known| known.is(input)).map(Traced::shallow_clone).next()
}

/// The most operations after an error. A loop that waits for a size may never end then, so the run
/// is stopped.
const MOST_OPERATIONS_BEHIND_AN_ERROR: usize = 100_000;

/// Runs part of a pass for the operation at a source location of a `forward`. `None` after an
/// earlier error, or if `run` fails.
pub(super) fn record<T>(
    at: &'static Location<'static>,
    run: impl FnOnce(&mut Tracer) -> Result<T>,
) -> Option<T> {
    let current = RUNS.with_borrow(|runs| runs.last().map(Rc::clone))?;
    if current.error.borrow().is_some() {
        let mut cx = current.tracer.borrow_mut();
        cx.behind_error += 1;
        if cx.behind_error > MOST_OPERATIONS_BEHIND_AN_ERROR {
            drop(cx);
            std::panic::resume_unwind(Box::new("it does not end"));
        }
        return None;
    }
    let mut cx = current.tracer.borrow_mut();
    let outer = cx.at.replace(at);
    let done = run(&mut cx);
    cx.at = outer;
    drop(cx);
    match done {
        Ok(done) => Some(done),
        Err(error) => {
            current.error.borrow_mut().get_or_insert(located(error, at));
            None
        }
    }
}

/// A call that is recorded as one: the calls that it makes are not recorded while this lives.
pub(crate) struct OneCall(());

impl OneCall {
    pub(crate) fn begin() -> Self {
        Self::mute(true);
        OneCall(())
    }

    fn mute(starts: bool) {
        if let Some(run) = RUNS.with_borrow(|runs| runs.last().map(Rc::clone)) {
            run.tracer.borrow_mut().mute(starts);
        }
    }
}

impl Drop for OneCall {
    fn drop(&mut self) {
        Self::mute(false);
    }
}

/// Adds the source location in `forward` to an error. An error that has a location keeps it: the
/// innermost one is reported.
fn located(error: Error, at: &Location) -> Error {
    match error {
        error @ Error::Forward { .. } => error,
        error => {
            let at = format!("{}:{}:{}", at.file(), at.line(), at.column());
            Error::Forward { at, error: Box::new(error) }
        }
    }
}

/// Runs the symbolic pass of a type whose wiring is read from its `forward`. `#[derive(Prunable)]`
/// calls it.
///
/// # Errors
/// Any operation of the `forward` that channels do not allow, with its source location; a panic of
/// the `forward`; another number of inputs.
#[doc(hidden)]
pub fn trace_forward<M: Forward + Prunable>(
    model: &M,
    cx: &mut Tracer,
    input: Flow,
) -> Result<Flow> {
    let is_loose = cx.is_in_declared_part()
        && input.value().is_some_and(|value| matches!(value.form, Form::Loose(_)));
    let inputs = match M::INPUTS {
        1 => vec![input],
        count => cx.inputs(&input, count)?.into_parts(),
    };
    if inputs.len() != M::INPUTS {
        return Err(Error::Wiring(WiringError::Tuple { path: cx.path(), found: inputs.len() }));
    }
    cx.enter_forward();
    let outer = match &cx.parts {
        Some(parts) if parts.knows(model, cx.scope()) => {
            parts.enter(model, cx.scope());
            None
        }
        outer => {
            let parts = Parts::of(model, cx.scope())?;
            Some((outer.clone(), cx.parts.replace(Rc::new(parts))).0)
        }
    };
    let train = cx.probe.train;
    let parts = outer.is_some().then(|| cx.parts.clone()).flatten();
    let copies = parts.as_ref().map(|parts| parts.copies()).transpose();
    let copies = copies.map_err(Error::torch(cx.path()))?.unwrap_or_default();
    let inputs: Vec<_> = inputs
        .into_iter()
        .map(|input| handed(&input).unwrap_or_else(|| Traced::new(input)))
        .collect();
    let run = Rc::new(Run {
        tracer: RefCell::new(std::mem::take(cx)),
        error: RefCell::default(),
        handed: RefCell::default(),
    });
    RUNS.with_borrow_mut(|runs| runs.push(Rc::clone(&run)));
    // With gradients on, a tensor that is computed from parameters can be told from a constant.
    let done = panics::caught_at(|| tch::with_grad(|| model.symbolic_forward(&inputs, train)));
    RUNS.with_borrow_mut(Vec::pop);
    *cx = run.tracer.take();
    Parts::restore(&copies).map_err(Error::torch(cx.path()))?;
    if let Some(outer) = outer {
        let unused = cx.parts.as_ref().map(|parts| parts.unused()).unwrap_or_default();
        cx.recording.unused.extend(unused);
        cx.parts = outer;
    }
    // A panic after an error is a consequence of the error.
    if let Some(error) = run.error.take() {
        return Err(error);
    }
    let outputs = done.map_err(|(panic, place)| {
        let asked = !cx.recording.asked.sizes.is_empty();
        let hint = match (asked, cx.knows_shapes()) {
            (false, _) => "",
            (true, false) => "; it asks for sizes, which are not those of your images (write their shape on the struct, as in `#[prune(input = [3, 224, 224])]`), and for numbers of channels, which slim multiplies by a factor to tell them from numbers that are written out",
            (true, true) => "; numbers of channels that it asks for are multiplied by a factor, to tell them from numbers that are written out: compare them with each other only",
        };
        let error = cx.layer_error(format!("its `forward` panics when it is run without data: {panic}{hint}"));
        match place {
            Some(at) => Error::Forward { at, error: Box::new(error) },
            None => error,
        }
    })?;
    if let ([output], Some(run)) = (&outputs[..], RUNS.with_borrow(|runs| runs.last().cloned())) {
        run.handed.borrow_mut().returned = Some(output.shallow_clone());
    }
    let flows: Option<Vec<_>> = outputs.iter().map(Traced::flow).collect();
    let flows = flows
        .unwrap_or_default()
        .into_iter()
        .map(|flow| if is_loose { loosened(cx, flow) } else { Ok(flow) });
    let flows = flows.collect::<Result<Vec<_>>>()?;
    Ok(match <[Flow; 1]>::try_from(flows) {
        Ok([flow]) => flow,
        Err(flows) => Flow::tuple(flows),
    })
}

/// The flow without its dimensions, as a part with declared wiring sees it.
fn loosened(cx: &Tracer, flow: Flow) -> Result<Flow> {
    let FlowKind::Value(Value { form: Form::Dims(shape), .. }) = &flow.0 else { return Ok(flow) };
    if shape.channel_dim() != Some(1) && !shape.digits().is_empty() {
        let shape = shape.describe();
        return Err(cx.layer_error(format!(
            "its `forward` gives {shape}, and the part around it, whose wiring is declared, expects [N, C, …]; write a `#[forward]` for that part too"
        )));
    }
    let FlowKind::Value(value) = flow.0 else { return Ok(flow) };
    let form = Form::Loose(value.form.positions());
    Ok(Value { form, ..value }.into())
}

/// Records that a part's wiring is declared by its fields, and returns the part's input without
/// dimensions. `#[prune(sequential)]` calls it.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) when the channels are not in dimension
/// 1.
#[doc(hidden)]
pub fn declared(
    cx: &mut Tracer,
    type_name: &'static str,
    fields: usize,
    input: Flow,
) -> Result<Flow> {
    if fields > 1 {
        cx.declare(type_name);
    }
    let loosen = |flow| loosened(cx, flow);
    match input.0 {
        FlowKind::Tuple(parts) => {
            parts.into_iter().map(loosen).collect::<Result<Vec<_>>>().map(Flow::tuple)
        }
        one => loosened(cx, Flow(one)),
    }
}

/// Sets the shapes of a model's inputs for one sample. `#[prune(input = [3, 224, 224])]` calls it.
///
/// # Errors
/// [`WiringError::Part`](crate::error::WiringError::Part) when the number of inputs differs,
/// [`WiringError::Width`](crate::error::WiringError::Width),
/// [`WiringError::Layer`](crate::error::WiringError::Layer).
#[doc(hidden)]
pub fn expect_shapes(cx: &mut Tracer, input: &Flow, shapes: &[&[i64]]) -> Result<Flow> {
    let inputs = match shapes.len() {
        1 => vec![input.clone()],
        count => cx.inputs(input, count)?.into_parts(),
    };
    let parts = inputs.iter().zip(shapes).map(|(part, shape)| cx.expect_shape(part, shape));
    let mut parts = parts.collect::<Result<Vec<_>>>()?;
    Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Flow::tuple(parts) })
}
