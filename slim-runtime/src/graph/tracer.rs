//! The symbolic forward pass: records which operation and which layer is given which channels.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::Location;
use std::rc::Rc;

use smallvec::smallvec;
use tch::{Device, Kind, Tensor};

use super::shape::{self, Decider, Factor, Shape};
use super::value::{ChannelId, ElementCount, FlowKind, Form, Value, ValueId};
use super::{
    Gate, LayerNode, LayerTracer, Layout, Maker, Operation, Operator, Recording, Sources, Step,
};
use crate::graph::parts::Parts;
use crate::graph::{KeepReason, LayerKind};
use crate::{Error, Flow, Result};

/// More than any layer has, so that a number that is written out costs no memory without end.
const MOST_CHANNELS: usize = 1 << 24;

/// Records channel dependencies while a model's [`trace`](crate::Prunable::trace) runs.
///
/// A composite calls [`field`](Self::field) for each of its parts; a layer calls
/// [`layer`](Self::layer) and says which dimension of which tensor follows which channels.
#[derive(Default)]
pub struct Tracer {
    scope: Vec<String>,
    pub(crate) recording: Recording,
    /// The model's inputs.
    inputs: Vec<Input>,
    /// The parts of the model whose `forward` is read.
    pub(crate) parts: Option<Rc<Parts>>,
    /// How many operations of a `forward` have come behind an error.
    pub(crate) behind_error: usize,
    /// What a `forward` is told that asks for sizes.
    pub(crate) probe: Probe,
    /// What is decided of numbers that a `forward` gives.
    pub(crate) decider: Decider,
    /// Where in a `forward` the operation is that is being recorded.
    pub(crate) at: Option<&'static Location<'static>>,
    /// Numbers that the operation is given that is being recorded.
    pub(crate) numbers: Vec<f64>,
    /// Sizes that the operation is given that is being recorded, and that are none of channels.
    pub(crate) sizes: Vec<i64>,
    /// The elements of the constant that is being recorded.
    pub(crate) contents: Vec<u64>,
    /// Where the tensor at each address was bound first.
    pub(super) bound: HashMap<usize, ((usize, usize), Layout)>,
    /// Where each piece of state was declared first, by path and name.
    pub(super) states: HashMap<(String, &'static str), (usize, usize)>,
    /// The model, and the parts that are being traced, the innermost last.
    root: Scope,
    scopes: Vec<Scope>,
}

/// An input of the model.
#[derive(Default)]
struct Input {
    /// Its channels, once their number is known.
    value: Option<Value>,
    /// Its dimensions, where they are given.
    shape: Option<InputShape>,
}

/// The dimensions of an input for one sample: channels, then positions.
pub(crate) type InputShape = Vec<i64>;

/// What a `forward` is told that asks for sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Numbers of channels are multiplied by it.
    pub(crate) scale: i64,
    /// Samples.
    pub(crate) batch: i64,
    /// Positions of inputs whose shape is not given, first to last dimension.
    pub(crate) positions: [i64; 3],
    pub(crate) train: bool,
    /// Kind and device of all tensors.
    pub(crate) options: (Kind, Device),
}

impl Default for Probe {
    fn default() -> Self {
        Probe {
            scale: 1,
            batch: 2,
            positions: [96, 80, 48],
            train: false,
            options: tch::kind::FLOAT_CPU,
        }
    }
}

/// A part of the model that is being traced.
#[derive(Debug, Clone, Copy, Default)]
struct Scope {
    /// How many layers are in front of it.
    start: usize,
    /// Whether its trace says everything that its forward pass does.
    explicit: bool,
    /// Whether its `forward` is read, so that dimensions are known.
    is_forward: bool,
}

impl Tracer {
    pub(crate) fn with_probe(probe: Probe) -> Self {
        Self { probe, ..Self::default() }
    }

    /// The part that is being traced is a `forward` that is read: it says everything that it does.
    pub(crate) fn enter_forward(&mut self) {
        let scope = self.scopes.last_mut().unwrap_or(&mut self.root);
        (scope.explicit, scope.is_forward) = (true, true);
        self.recording.is_forward = true;
    }

    /// Runs `trace` for a part at a path below the current one, applied by a `forward` that is
    /// read.
    pub(crate) fn fields<T>(
        &mut self,
        names: &[String],
        trace: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (scopes, scope) = (self.scopes.len(), self.scope.len());
        let start = self.recording.layers.len();
        self.scope.extend_from_slice(names);
        // A layer asks the part around it, which is a `forward`, however many names are in between.
        self.scopes.push(Scope { start, explicit: true, is_forward: true });
        self.scopes.push(Scope { start, ..Scope::default() });
        let traced = trace(self);
        self.scopes.truncate(scopes);
        self.scope.truncate(scope);
        traced
    }

    /// The wiring of the part that is being traced is declared by its fields, and not read.
    pub(crate) fn declare(&mut self, type_name: &'static str) {
        if !self.recording.declared.contains(&type_name) {
            self.recording.declared.push(type_name);
        }
    }

    /// Like [`fields`](Self::fields), for a part at an absolute path.
    pub(crate) fn at_path<T>(
        &mut self,
        path: &[String],
        trace: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outer = std::mem::take(&mut self.scope);
        let traced = self.fields(path, trace);
        self.scope = outer;
        traced
    }

    /// Names of the parts around the one that is being traced, outermost first, and its own.
    pub(crate) fn scope(&self) -> &[String] {
        &self.scope
    }

    /// Records that a part cannot be changed any more: its batch norm is folded, or its weight is
    /// packed.
    pub(crate) fn mark_deployed(&mut self, deployed: bool) {
        if deployed {
            let path = self.path();
            self.recording.deployed.get_or_insert(path);
        }
    }

    /// Runs `trace` for a part, whose layers are then named `name` inside the current one.
    ///
    /// # Errors
    /// Those of `trace`.
    pub fn field<T>(
        &mut self,
        name: impl Display,
        trace: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.scope.push(name.to_string());
        self.scopes.push(Scope { start: self.recording.layers.len(), ..Scope::default() });
        let traced = trace(self);
        self.scope.pop();
        self.scopes.pop();
        traced
    }

    /// Like [`field`](Self::field), and the channels that `trace` returns are never removed.
    ///
    /// # Errors
    /// Those of `trace`.
    pub fn kept_field(
        &mut self,
        name: impl Display,
        trace: impl FnOnce(&mut Self) -> Result<Flow>,
    ) -> Result<Flow> {
        self.field(name, |cx| cx.kept(trace))
    }

    /// The channels that `trace` returns are never removed.
    ///
    /// # Errors
    /// Those of `trace`.
    pub fn kept(&mut self, trace: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<Flow> {
        let flow = trace(self)?;
        self.keep(&flow);
        Ok(flow)
    }

    /// Everything that this part's forward pass does is said in its trace: a batch norm among its
    /// own fields is followed by an activation where [`activation`](Self::activation) says so, and
    /// by none elsewhere.
    pub fn explicit(&mut self) {
        self.scopes.last_mut().unwrap_or(&mut self.root).explicit = true;
    }

    /// How many layers are in front of the part that is being traced.
    pub(super) fn scope_start(&self) -> usize {
        self.scopes.last().unwrap_or(&self.root).start
    }

    /// Whether the part around the current one says everything.
    pub(super) fn is_said(&self) -> bool {
        self.around().is_some_and(|around| around.explicit)
    }

    /// Whether the part around the current one is a `forward` that is read.
    pub(super) fn is_in_forward(&self) -> bool {
        self.around().is_some_and(|around| around.is_forward)
    }

    fn around(&self) -> Option<&Scope> {
        match &self.scopes[..] {
            [] => None,
            [_] => Some(&self.root),
            [.., around, _] => Some(around),
        }
    }

    /// Starts a layer at the current path. If it has a weight, its forward pass says how often that
    /// is used: see [`nn::record_macs`](crate::nn::record_macs).
    pub fn layer(&mut self, kind: LayerKind) -> LayerTracer<'_> {
        self.layer_by(Maker::User, kind)
    }

    /// Starts a layer of this crate's or of tch's.
    pub(crate) fn layer_by(&mut self, maker: Maker, kind: LayerKind) -> LayerTracer<'_> {
        LayerTracer::new(self, LayerNode::new(self.path(), kind, maker))
    }

    /// Never removes these channels. An open flow is held anyway, as the model's input.
    pub fn keep(&mut self, flow: &Flow) {
        self.hold(flow, &KeepReason::Keep { by: self.path() });
    }

    /// Fixes the width of an open flow, or checks that a flow has this width.
    ///
    /// # Errors
    /// [`Error::Width`] when it has another, [`Error::Tuple`].
    pub fn expect_input(&mut self, flow: &Flow, width: i64) -> Result<Flow> {
        self.resolve(flow, width).map(Flow::from)
    }

    /// Like [`expect_input`](Self::expect_input) for a model of several inputs, one of each width.
    ///
    /// # Errors
    /// [`Error::Part`] when there are not as many inputs as widths, [`Error::Width`].
    pub fn expect_inputs(&mut self, input: &Flow, widths: &[i64]) -> Result<Flow> {
        let inputs = self.inputs(input, widths.len())?;
        let FlowKind::Tuple(parts) = &inputs.0 else { return Ok(inputs) };
        let parts = parts.iter().zip(widths).map(|(part, &width)| self.expect_input(part, width));
        parts.collect::<Result<Vec<_>>>().map(Flow::tuple)
    }

    /// Tensor `index` of several.
    ///
    /// # Errors
    /// [`Error::Part`] when the flow is one tensor, or has fewer.
    pub fn part(&mut self, flow: &Flow, index: usize) -> Result<Flow> {
        match &flow.0 {
            FlowKind::Tuple(parts) if index < parts.len() => Ok(parts[index].clone()),
            FlowKind::Tuple(parts) => {
                Err(Error::Part { path: self.path(), index, found: parts.len() })
            }
            _ => Err(Error::Part { path: self.path(), index, found: 1 }),
        }
    }

    /// The input of a model that takes `count` tensors: as many open flows where the model is the
    /// root, else the tuple that it is given.
    ///
    /// # Errors
    /// [`Error::Part`] when it is given another number of tensors.
    pub fn inputs(&mut self, input: &Flow, count: usize) -> Result<Flow> {
        match &input.0 {
            FlowKind::Open(index) if self.inputs[*index].value.is_none() => {
                Ok(Flow::tuple((0..count).map(|_| self.open()).collect::<Vec<_>>()))
            }
            FlowKind::Tuple(parts) if parts.len() == count => Ok(input.clone()),
            FlowKind::Tuple(parts) => {
                Err(Error::Part { path: self.path(), index: count - 1, found: parts.len() })
            }
            _ => Err(Error::Part { path: self.path(), index: count - 1, found: 1 }),
        }
    }

    /// Field path of the part that is being traced.
    pub(crate) fn path(&self) -> String {
        if self.scope.is_empty() { "model".to_owned() } else { self.scope.join(".") }
    }

    /// What an error message calls the part that is being traced.
    pub(super) fn source(&self) -> Rc<str> {
        format!("`{}`", self.path()).into()
    }

    /// A new input of the model.
    pub(crate) fn open(&mut self) -> Flow {
        self.inputs.push(Input::default());
        Flow(FlowKind::Open(self.inputs.len() - 1))
    }

    /// The inputs of a model, of these shapes without samples where they are given.
    pub(crate) fn open_shaped(&mut self, shapes: Option<&[InputShape]>) -> Flow {
        let mut open = |shape: Option<&InputShape>| {
            self.inputs.push(Input { value: None, shape: shape.cloned() });
            Flow(FlowKind::Open(self.inputs.len() - 1))
        };
        match shapes {
            None => open(None),
            Some([one]) => open(Some(one)),
            Some(several) => {
                Flow::tuple(several.iter().map(|shape| open(Some(shape))).collect::<Vec<_>>())
            }
        }
    }

    /// The outputs of a further run of the model, which cannot be removed either.
    pub(crate) fn keep_outputs(&mut self, output: &Flow) {
        self.hold(output, &KeepReason::Output);
        self.give(output);
    }

    /// How many channels a flow has, where that is known.
    pub(crate) fn known_width(&self, flow: &Flow) -> Option<i64> {
        let value = match &flow.0 {
            FlowKind::Value(value) => Some(value),
            FlowKind::Open(index) => self.inputs[*index].value.as_ref(),
            FlowKind::Tuple(_) => None,
        };
        value.map(|value| value.len() as i64)
    }

    /// The channels of a flow that must have `width` of them.
    pub(crate) fn resolve(&mut self, flow: &Flow, width: i64) -> Result<Value> {
        let value = self.channels(flow, usize::try_from(width).ok())?;
        if value.len() as i64 == width {
            return Ok(value);
        }
        let hint =
            "; a field reads the one declared before it, unless `from` says otherwise".to_owned();
        Err(self.width_error(width, "channel", &value, hint))
    }

    /// The channels of a flow. An open one is fixed to `width` where that is known.
    pub(crate) fn channels(&mut self, flow: &Flow, width: Option<usize>) -> Result<Value> {
        match &flow.0 {
            FlowKind::Value(value) => Ok(value.clone()),
            FlowKind::Tuple(flows) => Err(Error::Tuple { path: self.path(), found: flows.len() }),
            FlowKind::Open(index) => match (&self.inputs[*index].value, width) {
                (Some(value), _) => Ok(value.clone()),
                (None, Some(width)) => Ok(self.fix_input(*index, width)),
                (None, None) => Err(Error::OpenInput { path: self.path() }),
            },
        }
    }

    fn fix_input(&mut self, index: usize, width: usize) -> Value {
        let ids = self.recording.fresh(width);
        let form = match &self.inputs[index].shape {
            Some(shape) => Form::Dims(self.given_shape(shape, width)),
            None => Form::Loose(ElementCount::Several),
        };
        let source = self.source();
        let value = self.record(Operator::input(), Vec::new(), Rc::clone(&ids), form, source);
        let value = Value { source: "the model's input".into(), ..value };
        self.recording.step(Step::Hold(ids, KeepReason::Input));
        self.inputs[index].value = Some(value.clone());
        value
    }

    /// The dimensions `[N, C, …]` of an input whose shape is given; `[N, …, C]` where the last
    /// dimension alone is as wide as its reader.
    fn given_shape(&self, shape: &[i64], width: usize) -> Shape {
        let is_last =
            shape.first() != Some(&(width as i64)) && shape.last() == Some(&(width as i64));
        if let (true, [positions @ .., _]) = (is_last, shape) {
            let batch = smallvec![Factor::Size { size: self.probe.batch, assumed: true }];
            let positions = positions.iter().map(|&size| smallvec![Factor::exact(size)]);
            let channels = smallvec![Factor::channels(width)];
            return Shape::new([batch].into_iter().chain(positions).chain([channels]));
        }
        let channels = shape.first().and_then(|&channels| usize::try_from(channels).ok());
        let batch = smallvec![Factor::Size { size: self.probe.batch, assumed: true }];
        let positions = shape.iter().skip(1).map(|&size| smallvec![Factor::exact(size)]);
        let channels = smallvec![Factor::channels(channels.unwrap_or(0))];
        Shape::new([batch, channels].into_iter().chain(positions))
    }

    /// Dimensions `[N, C, …]` of so many, where nothing is known of them.
    pub(crate) fn assumed_shape(&self, channels: usize, rank: usize) -> Shape {
        let size = |size| smallvec![Factor::Size { size, assumed: true }];
        let positions = self.probe.positions.into_iter().cycle().take(rank.saturating_sub(2));
        let first = [size(self.probe.batch), smallvec![Factor::channels(channels)]];
        Shape::new(first.into_iter().take(rank).chain(positions.map(size)))
    }

    /// Says the shape of an input, and with it its number of channels.
    ///
    /// # Errors
    /// Those of [`expect_input`](Self::expect_input); [`Error::Layer`] for a shape without
    /// channels.
    pub(crate) fn expect_shape(&mut self, flow: &Flow, shape: &[i64]) -> Result<Flow> {
        let Some(&width) = shape.first().filter(|_| shape.iter().all(|&size| size > 0)) else {
            let reason = format!(
                "the input's shape {shape:?} must be channels and positions, each at least 1"
            );
            return Err(self.layer_error(reason));
        };
        if let FlowKind::Open(index) = &flow.0
            && self.inputs[*index].value.is_none()
        {
            self.inputs[*index].shape = Some(shape.to_vec());
        }
        self.expect_input(flow, width)
    }

    /// Why channels cannot be removed of which this part of a `forward` computes something
    /// together.
    pub(crate) fn mixed(&self, what: &str) -> KeepReason {
        let at = self.at.map(|at| format!(" ({}:{}:{})", at.file(), at.line(), at.column()));
        KeepReason::Together { by: self.path(), what: format!("{what}{}", at.unwrap_or_default()) }
    }

    /// The dimensions of an image `[N, C, …]` with other sizes of positions.
    pub(crate) fn image(
        &self,
        image: &Shape,
        resize: impl Fn(i64) -> Option<i64>,
    ) -> Result<Shape> {
        if image.channel_dim() != Some(1) {
            let image = image.describe();
            return Err(self.layer_error(format!(
                "it takes an image [N, C, …], and is given {image}; `permute` it before"
            )));
        }
        shape::resized(image, 2, |_, size| resize(size)).ok_or_else(|| self.too_small(image))
    }

    /// A tensor that holds no channels.
    pub(crate) fn constant_of(&mut self, name: &'static str, form: Form) -> Value {
        self.record(Operator::constant(name), Vec::new(), Rc::new([]), form, self.source())
    }

    /// The channels of a value are summed over.
    pub(crate) fn sums_over(&mut self, value: &Value) {
        let by = self.path();
        self.recording.step(Step::Sum(value.id, by));
    }

    /// A number of channels that an operation makes by a number that is written out.
    ///
    /// # Errors
    /// [`Error::Layer`] for more than any network has.
    pub(crate) fn count(&self, name: &str, count: i64) -> Result<usize> {
        let count = usize::try_from(count).ok().filter(|&count| count <= MOST_CHANNELS);
        count.ok_or_else(|| {
            self.layer_error(format!("`{name}` makes more channels than any network has"))
        })
    }

    /// Whether a constant is zero.
    pub(crate) fn is_zero(&self, value: &Value) -> bool {
        self.recording.steps.iter().any(|step| {
            matches!(step, Step::Operation(operation)
                if operation.result == value.id && operation.operator.gate == Gate::Always)
        })
    }

    /// Something that nothing is known of: its input stays whole, and its output of these sizes is
    /// a constant.
    pub(crate) fn opaque(&mut self, value: &Value, sizes: &[i64]) -> Result<Value> {
        let hold = self.mixed("an opaque operation");
        self.hold_ids(Rc::clone(&value.ids), hold);
        let [samples, channels, positions @ ..] = sizes else {
            let reason = format!(
                "an opaque operation gives a tensor of shape {sizes:?}, which has no channels; give it [N, C, …]"
            );
            return Err(self.layer_error(reason));
        };
        let count = self.count("opaque", *channels)?;
        let size = |size: i64, assumed| smallvec![Factor::Size { size, assumed }];
        let positions = positions.iter().map(|&positions| size(positions, true));
        let first = [size(*samples, true), smallvec![Factor::channels(count)]];
        let shape = Shape::new(first.into_iter().chain(positions));
        let made = self.constant(Operator::constant("opaque"), count, shape);
        let hold = self.mixed("an opaque operation");
        self.hold_ids(Rc::clone(&made.ids), hold);
        Ok(made)
    }

    /// Records that channels cannot be removed.
    pub(crate) fn hold_ids(&mut self, ids: Rc<[ChannelId]>, hold: KeepReason) {
        self.recording.step(Step::Hold(ids, hold));
    }

    /// Makes channels that nothing in the network makes: those of a constant.
    pub(crate) fn constant(&mut self, operator: Operator, count: usize, shape: Shape) -> Value {
        let ids = self.recording.fresh(count);
        let source = self.source();
        self.record(operator, Vec::new(), ids, Form::Dims(shape), source)
    }

    /// Records an operation, and returns its result.
    pub(crate) fn operate(&mut self, operator: Operator, operands: &[&Value], form: Form) -> Value {
        let first = &operands[0].ids;
        let ids = match &operator.sources {
            Sources::New | Sources::Same | Sources::Zip | Sources::Broadcast => Rc::clone(first),
            Sources::Concat => {
                operands.iter().flat_map(|operand| operand.ids.iter().copied()).collect()
            }
            Sources::Select(positions) => {
                positions.iter().map(|&position| first[position as usize]).collect()
            }
            Sources::Blocks(size) => first.iter().step_by(*size).copied().collect(),
        };
        // What only passes, or is picked from, is called what it was.
        let source = match &operator.sources {
            Sources::Same | Sources::Select(_) => Rc::clone(&operands[0].source),
            _ => self.source(),
        };
        let operands = operands.iter().map(|operand| operand.id).collect();
        self.record(operator, operands, ids, form, source)
    }

    fn record(
        &mut self,
        operator: Operator,
        operands: Vec<ValueId>,
        ids: Rc<[ChannelId]>,
        form: Form,
        source: Rc<str>,
    ) -> Value {
        let path = self.path();
        let result = self.recording.value(Rc::clone(&ids));
        let (numbers, at) = (std::mem::take(&mut self.numbers), self.at);
        let sizes = std::mem::take(&mut self.sizes).into();
        let contents = std::mem::take(&mut self.contents).into();
        let result_sizes =
            form.shape().map(|shape| shape.other_sizes().collect()).unwrap_or_default();
        let operation = Operation {
            operator,
            operands,
            result,
            numbers,
            sizes,
            result_sizes,
            contents,
            path,
            at,
        };
        self.recording.step(Step::Operation(operation));
        Value { id: result, ids, source, form }
    }

    /// A constant as a layer reads it that takes `width` channels from a dimension: they are
    /// channels that nothing makes, and stay. `None` where the flow is no constant of that width.
    pub(super) fn constant_channels(
        &mut self,
        flow: &Flow,
        dim: usize,
        width: i64,
    ) -> Option<Value> {
        let value = flow.value().filter(|value| value.len() == 0)?;
        let shape = value.form.shape().filter(|shape| dim < shape.rank())?.clone();
        let count = usize::try_from(width).ok()?;
        if shape::size(&shape.dims()[dim]) != width || width == 0 {
            return None;
        }
        let form = Form::Dims(shape.with(dim, smallvec![Factor::channels(count)]));
        let (operands, ids) = (vec![value.id], self.recording.fresh(count));
        let source = Rc::clone(&value.source);
        let value = self.record(Operator::constant("constant"), operands, ids, form, source);
        let hold = self.mixed("no layer makes them");
        self.hold_ids(Rc::clone(&value.ids), hold);
        Some(value)
    }

    /// An error for a window that does not fit a tensor.
    pub(crate) fn too_small(&self, shape: &Shape) -> Error {
        self.layer_error(format!("its window does not fit {}", shape.describe()))
    }

    pub(crate) fn layer_error(&self, reason: String) -> Error {
        Error::Layer { path: self.path(), reason }
    }

    pub(super) fn width_error(
        &self,
        expected: i64,
        unit: &'static str,
        value: &Value,
        hint: String,
    ) -> Error {
        let (path, source_name) = (self.path(), value.source.to_string());
        Error::Width { path, expected, unit, source_name, found: value.len() as i64, hint }
    }

    /// Holds every channel of a flow.
    fn hold(&mut self, flow: &Flow, hold: &KeepReason) {
        match &flow.0 {
            FlowKind::Open(index) => {
                if let Some(value) = self.inputs[*index].value.clone() {
                    self.recording.step(Step::Hold(value.ids, hold.clone()));
                }
            }
            FlowKind::Value(value) => {
                self.recording.step(Step::Hold(Rc::clone(&value.ids), hold.clone()));
            }
            FlowKind::Tuple(flows) => flows.iter().for_each(|flow| self.hold(flow, hold)),
        }
    }

    /// Ends the trace of a whole model: its output cannot be removed.
    pub(crate) fn finish(mut self, output: &Flow) -> Recording {
        self.hold(output, &KeepReason::Output);
        self.give(output);
        self.recording.mark_first();
        self.recording.decisions = self.decider.made;
        let shapes = self.inputs.iter().filter(|input| input.value.is_some());
        self.recording.knows_shapes =
            shapes.clone().count() > 0 && shapes.into_iter().all(|input| input.shape.is_some());
        self.recording
    }

    fn give(&mut self, output: &Flow) {
        match &output.0 {
            FlowKind::Value(value) => self.recording.outputs.push(value.id),
            FlowKind::Tuple(flows) => flows.iter().for_each(|flow| self.give(flow)),
            FlowKind::Open(_) => {}
        }
    }

    /// The tensors that were bound, once each, by path.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let layers = self.recording.layers.iter();
        let bound = layers.flat_map(|layer| layer.tensors.iter().map(move |bound| (layer, bound)));
        bound
            .filter(|(_, bound)| bound.tied.is_none())
            .map(|(layer, bound)| {
                (format!("{}.{}", layer.path, bound.name), bound.tensor.shallow_clone())
            })
            .collect()
    }
}
