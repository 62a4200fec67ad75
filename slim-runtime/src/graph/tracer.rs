//! The symbolic forward pass: records operations and layers, and the channels that each receives.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::Location;
use std::rc::Rc;

use smallvec::smallvec;
use tch::{Device, Kind, Tensor};

use super::shape::{self, Factor, Shape};
use super::value::{ElementCount, FlowKind, Form, Value};
use super::view::Decider;
use super::{Calls, LayerNode, LayerTracer, Layout, Maker, Operator, Recording, Step};
use crate::error::WiringError;
use crate::graph::parts::Parts;
use crate::graph::{KeepReason, LayerKind};
use crate::{Error, Flow, Result};

/// Records channel dependencies while a model's [`trace`](crate::Prunable::trace) runs.
///
/// A composite calls [`field`](Self::field) for each of its parts. A layer calls
/// [`layer`](Self::layer) and declares which dimension of which tensor follows which channels.
#[derive(Default)]
pub struct Tracer {
    scope: Vec<String>,
    pub(crate) recording: Recording,
    /// The calls of the pass, for an export.
    pub(crate) calls: Option<Calls>,
    /// The model's inputs.
    inputs: Vec<Input>,
    /// The parts of the model whose `forward` is read.
    pub(crate) parts: Option<Rc<Parts>>,
    /// Number of operations of a `forward` that came after an error.
    pub(crate) behind_error: usize,
    /// The sizes that a `forward` is told when it asks.
    pub(crate) probe: Probe,
    /// Decides how to understand numbers that a `forward` passes to operations.
    pub(crate) decider: Decider,
    /// Source position in a `forward` of the operation that is being recorded.
    pub(crate) at: Option<&'static Location<'static>>,
    /// Numbers that the operation being recorded takes.
    pub(crate) numbers: Vec<f64>,
    /// Sizes that the operation being recorded takes, without numbers of channels.
    pub(crate) sizes: Vec<i64>,
    /// The elements of the constant that is being recorded, as bits.
    pub(crate) contents: Vec<u64>,
    /// By address: the layer and tensor that were bound there first, and the layout.
    pub(super) bound: HashMap<usize, ((usize, usize), Layout)>,
    /// By path and name: the layer that declared the state first, and its position in the layer.
    pub(super) states: HashMap<(String, &'static str), (usize, usize)>,
    /// The scope of the model, and those of the parts that are being traced, the innermost last.
    root: Scope,
    scopes: Vec<Scope>,
}

/// An input of the model.
#[derive(Default)]
struct Input {
    /// The input's channels, once their number is known.
    value: Option<Value>,
    /// The input's dimensions, where they are given.
    shape: Option<InputShape>,
    /// Whether the model itself states them.
    is_stated: bool,
}

/// An input that a model uses.
pub(crate) struct UsedInput {
    /// The input's dimensions, where they are given.
    pub(crate) shape: Option<InputShape>,
    /// Whether the model itself states them.
    pub(crate) is_stated: bool,
    /// The number of channels, where something has read it as channels.
    pub(crate) width: Option<usize>,
}

/// The dimensions of an input for one sample: channels, then positions.
pub(crate) type InputShape = Vec<i64>;

/// The answers to a `forward` that asks for sizes, kinds and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Factor for numbers of channels.
    pub(crate) scale: i64,
    /// Number of samples.
    pub(crate) batch: i64,
    /// Sizes of the dimensions behind the channels, for inputs whose shape is not given.
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
    /// Number of layers before the part.
    start: usize,
    /// Whether the part's trace names everything that its forward pass does.
    explicit: bool,
    /// Whether the part's `forward` is read, so that dimensions are known.
    is_forward: bool,
}

impl Tracer {
    pub(crate) fn with_probe(probe: Probe) -> Self {
        Self { probe, ..Self::default() }
    }

    /// Marks the part that is being traced as a `forward` that is read: its trace names everything.
    pub(crate) fn enter_forward(&mut self) {
        let scope = self.scopes.last_mut().unwrap_or(&mut self.root);
        (scope.explicit, scope.is_forward) = (true, true);
        self.recording.is_forward = true;
    }

    /// Runs `trace` for a part at a path below the current one. A `forward` that is read applies
    /// the part.
    pub(crate) fn fields<T>(
        &mut self,
        names: &[String],
        trace: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (scopes, scope) = (self.scopes.len(), self.scope.len());
        let start = self.recording.layers.len();
        self.scope.extend_from_slice(names);
        // A layer asks its surrounding part, which must be the `forward`, whatever the number of
        // names.
        self.scopes.push(Scope { start, explicit: true, is_forward: true });
        self.scopes.push(Scope { start, ..Scope::default() });
        let traced = trace(self);
        self.scopes.truncate(scopes);
        self.scope.truncate(scope);
        traced
    }

    /// Records that the wiring of the part that is being traced is declared by its fields, not
    /// read.
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

    /// Field names from the model to the part that is being traced.
    pub(crate) fn scope(&self) -> &[String] {
        &self.scope
    }

    /// Records that a part cannot be changed any more, because its batch norm is folded or its
    /// weight is packed.
    pub(crate) fn mark_deployed(&mut self, deployed: bool) {
        if deployed {
            let path = self.path();
            self.recording.deployed.get_or_insert(path);
        }
    }

    /// Runs `trace` for a part with the field name `name` inside the current one.
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

    /// Like [`field`](Self::field), and holds the channels that `trace` returns: they are never
    /// removed.
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

    /// Holds the channels that `trace` returns: they are never removed.
    ///
    /// # Errors
    /// Those of `trace`.
    pub fn kept(&mut self, trace: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<Flow> {
        let flow = trace(self)?;
        self.keep(&flow);
        Ok(flow)
    }

    /// Declares that this part's trace names everything that its forward pass does. A batch norm
    /// among the part's own fields is then followed by an activation only where the trace calls
    /// [`activation`](Self::activation).
    pub fn explicit(&mut self) {
        self.scopes.last_mut().unwrap_or(&mut self.root).explicit = true;
    }

    /// Number of layers before the part that is being traced.
    pub(super) fn scope_start(&self) -> usize {
        self.scopes.last().unwrap_or(&self.root).start
    }

    /// Whether the trace of the surrounding part names everything.
    pub(super) fn is_said(&self) -> bool {
        self.around().is_some_and(|around| around.explicit)
    }

    /// Whether the surrounding part is a `forward` that is read.
    pub(super) fn is_in_forward(&self) -> bool {
        self.around().is_some_and(|around| around.is_forward)
    }

    /// Whether the surrounding part has a wiring that is declared, and not read.
    pub(crate) fn is_in_declared_part(&self) -> bool {
        self.around().is_some_and(|around| !around.is_forward)
    }

    fn around(&self) -> Option<&Scope> {
        match &self.scopes[..] {
            [] => None,
            [_] => Some(&self.root),
            [.., around, _] => Some(around),
        }
    }

    /// Starts a layer at the current path. If the layer has a weight, its forward pass reports how
    /// often the weight is used: see [`nn::record_macs`](crate::nn::record_macs).
    pub fn layer(&mut self, kind: LayerKind) -> LayerTracer<'_> {
        self.layer_by(Maker::User, kind)
    }

    /// Starts a layer of this crate or of tch.
    pub(crate) fn layer_by(&mut self, maker: Maker, kind: LayerKind) -> LayerTracer<'_> {
        LayerTracer::new(self, LayerNode::new(self.path(), kind, maker))
    }

    /// Holds the channels of a flow: they are never removed. An open flow is held anyway, as the
    /// model's input.
    pub fn keep(&mut self, flow: &Flow) {
        self.hold(flow, &KeepReason::Keep { by: self.path() });
    }

    /// Fixes the width of an open flow, or checks that a flow has this width.
    ///
    /// # Errors
    /// [`WiringError::Width`](crate::error::WiringError::Width) when the flow has another width,
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple).
    pub fn expect_input(&mut self, flow: &Flow, width: i64) -> Result<Flow> {
        self.resolve(flow, width).map(Flow::from)
    }

    /// Like [`expect_input`](Self::expect_input) for a model of several inputs. `widths` has the
    /// width of each.
    ///
    /// # Errors
    /// [`WiringError::Part`](crate::error::WiringError::Part) when the numbers of inputs and widths
    /// differ, [`WiringError::Width`](crate::error::WiringError::Width).
    pub fn expect_inputs(&mut self, input: &Flow, widths: &[i64]) -> Result<Flow> {
        let inputs = self.inputs(input, widths.len())?;
        let FlowKind::Tuple(parts) = &inputs.0 else { return Ok(inputs) };
        let parts = parts.iter().zip(widths).map(|(part, &width)| self.expect_input(part, width));
        parts.collect::<Result<Vec<_>>>().map(Flow::tuple)
    }

    /// Tensor `index` of a flow of several tensors.
    ///
    /// # Errors
    /// [`WiringError::Part`](crate::error::WiringError::Part) when the flow is one tensor, or has
    /// fewer tensors.
    pub fn part(&mut self, flow: &Flow, index: usize) -> Result<Flow> {
        match &flow.0 {
            FlowKind::Tuple(parts) if index < parts.len() => Ok(parts[index].clone()),
            FlowKind::Tuple(parts) => Err(Error::Wiring(WiringError::Part {
                path: self.path(),
                index,
                found: parts.len(),
            })),
            _ => Err(Error::Wiring(WiringError::Part { path: self.path(), index, found: 1 })),
        }
    }

    /// The inputs of a model that takes `count` tensors: new open flows if the model is the root,
    /// else the tuple that it receives.
    ///
    /// # Errors
    /// [`WiringError::Part`](crate::error::WiringError::Part) when the model receives another
    /// number of tensors.
    pub fn inputs(&mut self, input: &Flow, count: usize) -> Result<Flow> {
        match &input.0 {
            FlowKind::Open(index) if self.inputs[*index].value.is_none() => {
                Ok(Flow::tuple((0..count).map(|_| self.open()).collect::<Vec<_>>()))
            }
            FlowKind::Tuple(parts) if parts.len() == count => Ok(input.clone()),
            FlowKind::Tuple(parts) => Err(Error::Wiring(WiringError::Part {
                path: self.path(),
                index: count - 1,
                found: parts.len(),
            })),
            _ => Err(Error::Wiring(WiringError::Part {
                path: self.path(),
                index: count - 1,
                found: 1,
            })),
        }
    }

    /// Field path of the part that is being traced.
    pub(crate) fn path(&self) -> String {
        if self.scope.is_empty() { "model".to_owned() } else { self.scope.join(".") }
    }

    /// Name in error messages of the part that is being traced.
    pub(super) fn source(&self) -> Rc<str> {
        format!("`{}`", self.path()).into()
    }

    /// A new input of the model.
    pub(crate) fn open(&mut self) -> Flow {
        self.inputs.push(Input::default());
        Flow(FlowKind::Open(self.inputs.len() - 1))
    }

    /// Opens the inputs of a model. `shapes`, if given, are their shapes without samples.
    pub(crate) fn open_shaped(&mut self, shapes: Option<&[InputShape]>) -> Flow {
        let mut open = |shape: Option<&InputShape>| {
            self.inputs.push(Input { shape: shape.cloned(), ..Input::default() });
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

    /// Records the outputs of another run of the model, which are held too.
    pub(crate) fn keep_outputs(&mut self, output: &Flow) {
        self.hold(output, &KeepReason::Output);
        self.give(output);
    }

    /// The number of channels of a flow, where it is known.
    pub(crate) fn known_width(&self, flow: &Flow) -> Option<i64> {
        let value = match &flow.0 {
            FlowKind::Value(value) => Some(value),
            FlowKind::Open(index) => self.inputs[*index].value.as_ref(),
            FlowKind::Tuple(_) => None,
        };
        value.map(|value| value.len() as i64)
    }

    /// The value of a flow that must have `width` channels.
    pub(crate) fn resolve(&mut self, flow: &Flow, width: i64) -> Result<Value> {
        let value = self.channels(flow, usize::try_from(width).ok())?;
        if value.len() as i64 == width {
            return Ok(value);
        }
        let hint =
            "; a field reads the one declared before it, unless `from` says otherwise".to_owned();
        Err(self.width_error(width, "channel", &value, hint))
    }

    /// The value of a flow. An open flow receives `width` channels, if a width is given.
    pub(crate) fn channels(&mut self, flow: &Flow, width: Option<usize>) -> Result<Value> {
        match &flow.0 {
            FlowKind::Value(value) => Ok(value.clone()),
            FlowKind::Tuple(flows) => {
                Err(Error::Wiring(WiringError::Tuple { path: self.path(), found: flows.len() }))
            }
            FlowKind::Open(index) => match (&self.inputs[*index].value, width) {
                (Some(value), _) => Ok(value.clone()),
                (None, Some(width)) => Ok(self.fix_input(*index, width)),
                (None, None) => Err(Error::Wiring(WiringError::OpenInput { path: self.path() })),
            },
        }
    }

    /// The inputs that are used.
    pub(crate) fn used_inputs(&self) -> Vec<UsedInput> {
        let used =
            self.inputs.iter().filter(|input| input.value.is_some() || input.shape.is_some());
        let used = used.map(|input| UsedInput {
            shape: input.shape.clone(),
            is_stated: input.is_stated,
            width: input.value.as_ref().map(Value::len),
        });
        used.collect()
    }

    /// Fixes the inputs of a flow that are open, at these widths, so that each has a value.
    pub(crate) fn fix_inputs(&mut self, flow: &Flow, widths: &[usize]) -> Flow {
        match &flow.0 {
            FlowKind::Tuple(parts) => Flow::tuple(
                parts.iter().map(|part| self.fix_inputs(part, widths)).collect::<Vec<_>>(),
            ),
            FlowKind::Open(index) if self.inputs[*index].value.is_none() => {
                let value = self.fix_input(*index, widths.get(*index).copied().unwrap_or(0));
                self.know(&value);
                value.into()
            }
            _ => flow.clone(),
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

    /// The dimensions of an input whose shape is given: `[N, C, …]`, or `[N, …, C]` if the last
    /// size is the reader's width and the first is not.
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

    /// Dimensions `[N, C, …]` of this rank, for a tensor whose dimensions are not known.
    pub(crate) fn assumed_shape(&self, channels: usize, rank: usize) -> Shape {
        let size = |size| smallvec![Factor::Size { size, assumed: true }];
        let positions = self.probe.positions.into_iter().cycle().take(rank.saturating_sub(2));
        let first = [size(self.probe.batch), smallvec![Factor::channels(channels)]];
        Shape::new(first.into_iter().take(rank).chain(positions.map(size)))
    }

    /// Whether two dimensions have one size, whatever is removed. In a network that has just been
    /// slimmed, a single channel that is left may be taken for one that never goes, and so may its
    /// copies: they have the size that they have.
    pub(crate) fn have_one_size(&self, a: &[Factor], b: &[Factor]) -> bool {
        let holds = shape::holds_channels(a) && shape::holds_channels(b);
        let scale = self.probe.scale;
        shape::answer(a, scale) == shape::answer(b, scale)
            || self.decider.is_slimmed && holds && shape::size(a) == shape::size(b)
    }

    /// Sets the shape of an input, and with it the number of channels.
    ///
    /// # Errors
    /// Those of [`expect_input`](Self::expect_input);
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) for a shape without channels.
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
            self.inputs[*index].is_stated = true;
        }
        self.expect_input(flow, width)
    }

    /// The error for a window that does not fit a tensor.
    pub(crate) fn too_small(&self, shape: &Shape) -> Error {
        self.layer_error(format!("its window does not fit {}", shape.describe()))
    }

    pub(crate) fn layer_error(&self, reason: String) -> Error {
        Error::Wiring(WiringError::Layer { path: self.path(), reason })
    }

    pub(super) fn width_error(
        &self,
        expected: i64,
        unit: &'static str,
        value: &Value,
        hint: String,
    ) -> Error {
        let (path, source_name) = (self.path(), value.source.to_string());
        Error::Wiring(WiringError::Width {
            path,
            expected,
            unit,
            source_name,
            found: value.len() as i64,
            hint,
        })
    }

    /// Holds every channel of a flow.
    fn hold(&mut self, flow: &Flow, reason: &KeepReason) {
        match &flow.0 {
            FlowKind::Open(index) => {
                if let Some(value) = self.inputs[*index].value.clone() {
                    self.recording.step(Step::Hold(value.ids, reason.clone()));
                }
            }
            FlowKind::Value(value) => {
                self.recording.step(Step::Hold(Rc::clone(&value.ids), reason.clone()));
            }
            FlowKind::Tuple(flows) => flows.iter().for_each(|flow| self.hold(flow, reason)),
        }
    }

    /// Ends the trace of a whole model, and holds its outputs.
    pub(crate) fn finish(mut self, output: &Flow) -> Recording {
        self.hold(output, &KeepReason::Output);
        self.give(output);
        self.recording.mark_first();
        self.recording.knows_shapes = self.knows_shapes();
        self.recording.decisions = self.decider.made;
        self.recording
    }

    /// Whether the shape of every input that a layer reads is given.
    pub(crate) fn knows_shapes(&self) -> bool {
        let shapes = self.inputs.iter().filter(|input| input.value.is_some());
        shapes.clone().count() > 0 && shapes.into_iter().all(|input| input.shape.is_some())
    }

    fn give(&mut self, output: &Flow) {
        match &output.0 {
            FlowKind::Value(value) => self.recording.outputs.push(value.id),
            FlowKind::Tuple(flows) => flows.iter().for_each(|flow| self.give(flow)),
            FlowKind::Open(_) => {}
        }
    }

    /// The tensors that were bound, with their paths. A shared tensor is returned once.
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
