//! One layer of a trace: the channels that it reads, makes and outputs.

use std::borrow::Cow;
use std::rc::Rc;

use smallvec::smallvec;

use super::node::{AxisNode, AxisRole, BiasExactness, LayerHold, LayerNode, MixNode, ReadNode};
use super::shape::{self, Factor, Shape};
use super::value::{ElementCount, Form, Value};
use super::{Operator, Step, Tracer};
use crate::graph::KeepReason;
use crate::{Flow, Result};

/// Describes one layer to a [`Tracer`].
pub struct LayerTracer<'t> {
    pub(super) cx: &'t mut Tracer,
    /// Position of the layer in [`Recording::layers`](super::Recording::layers).
    pub(super) index: usize,
    /// Position of the layer's step in the recording. Operations on the layer's inputs are recorded
    /// before this step.
    step: usize,
    /// By axis: the channels as this layer sees them.
    pub(super) axes: Vec<Value>,
    /// The dimensions of the layer's output, and which of them holds the channels; `None` where
    /// they are not known. Starts as those of the input.
    pub(super) frame: Option<(Shape, usize)>,
}

/// A list of channels that dimensions of one layer's tensors follow. Returned by the methods of the
/// layer's [`LayerTracer`].
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    layer: usize,
    pub(super) index: usize,
}

impl<'t> LayerTracer<'t> {
    pub(super) fn new(cx: &'t mut Tracer, node: LayerNode) -> Self {
        let node = LayerNode { is_said: cx.is_said(), at: cx.at, ..node };
        cx.recording.layers.push(node);
        let index = cx.recording.layers.len() - 1;
        cx.recording.step(Step::Layer(index));
        Self { index, step: cx.recording.steps.len() - 1, cx, axes: Vec::new(), frame: None }
    }

    /// The layer mixes the `width` channels of `input` (a convolution). Channels that arrive
    /// ungated are held, because removing them would change the layer's output.
    ///
    /// # Errors
    /// [`WiringError::Width`](crate::error::WiringError::Width),
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple).
    pub fn read(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let value = self.given(input, width)?;
        self.read_value(name, value)
    }

    /// The layer mixes `features`, which are the channels of `input` or their channel-major flatten
    /// (a linear layer).
    ///
    /// # Errors
    /// [`WiringError::Width`](crate::error::WiringError::Width) when `features` is no multiple of
    /// the number of channels, or differs from it where there is nothing to flatten;
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple).
    pub fn read_flattened(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        features: i64,
    ) -> Result<Axis> {
        let rank = input.value().and_then(|value| value.form.shape().map(Shape::rank));
        let last = rank.unwrap_or_default().saturating_sub(1);
        let value = self.in_front(|cx| match cx.constant_channels(input, last, features) {
            Some(value) => Ok(value),
            None => cx.channels(input, usize::try_from(features).ok()),
        })?;
        self.arrived(&value);
        let width = value.len() as i64;
        if let Form::Dims(shape) = &value.form {
            let positions = self.columns(shape, features)?;
            self.frame = Some((shape.clone(), shape.rank() - 1));
            let form = value.form.clone();
            let value = match positions {
                Some(positions) => {
                    let select = Operator::select("flatten", positions);
                    self.in_front(|cx| cx.operate(select, &[&value], form))
                }
                None => value,
            };
            return self.read_value(name, value);
        }
        let positions = value.form.positions();
        let hint = match positions {
            _ if features == width => None,
            ElementCount::One => Some(
                "; each channel is one value here, so there is nothing to flatten (if it was expanded, say `flatten(a, positions)`)",
            ),
            ElementCount::Mixed => Some(
                "; its parts may have unlike positions, so say what is flattened, `flatten(a, positions)`, before or after they are concatenated",
            ),
            ElementCount::Several if width > 0 && features % width == 0 => None,
            ElementCount::Several => {
                Some("; flattened, each channel gives the same number of features")
            }
        };
        if let Some(hint) = hint {
            return Err(self.cx.width_error(features, "feature", &value, hint.to_owned()));
        }
        let times = (features / width.max(1)) as usize;
        let flattened = self.in_front(|cx| cx.repeat(value, times));
        self.read_value(name, flattened)
    }

    /// The layer treats each of the `width` channels of `input` by itself (a batch norm).
    ///
    /// # Errors
    /// [`WiringError::Width`](crate::error::WiringError::Width),
    /// [`WiringError::Tuple`](crate::error::WiringError::Tuple).
    pub fn follow(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let value = self.given(input, width)?;
        self.axis(name, value, AxisRole::Followed)
    }

    /// Like [`follow`](Self::follow), for channels in any dimension of the layer's input.
    pub(crate) fn follow_anywhere(
        &mut self,
        name: &'static str,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let value = self.in_front(|cx| cx.resolve(input, width))?;
        self.arrived(&value);
        if let Form::Dims(shape) = &value.form {
            let dim = shape.channel_dim().unwrap_or(1);
            self.expect_channels(shape, dim)?;
        }
        self.axis(name, value, AxisRole::Followed)
    }

    /// The layer mixes `features` positions in the last dimension into `outputs` others, for each
    /// channel by itself.
    pub(crate) fn follow_positions(
        &mut self,
        name: &'static str,
        input: &Flow,
        width: i64,
        features: i64,
        outputs: i64,
    ) -> Result<Axis> {
        let value = self.in_front(|cx| cx.resolve(input, width))?;
        self.arrived(&value);
        if let Form::Dims(shape) = &value.form
            && let (Some(last), Some(dim)) = (shape.dims().last(), shape.channel_dim())
        {
            if shape::size(last) != features && !shape::is_assumed(last) {
                let shape = shape.describe();
                return Err(self
                    .cx
                    .layer_error(format!("it takes {features} features, and is given {shape}")));
            }
            let last = shape.rank() - 1;
            self.frame = Some((shape.with(last, smallvec![Factor::exact(outputs)]), dim));
        }
        self.axis(name, value, AxisRole::Followed)
    }

    /// The layer makes `width` new channels.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when the layer already has an axis
    /// of this name.
    pub fn write(&mut self, name: impl Into<Cow<'static, str>>, width: i64) -> Result<Axis> {
        let ids = self.cx.recording.fresh(usize::try_from(width).unwrap_or(0));
        let (id, source) = (self.cx.recording.value(Rc::clone(&ids)), self.cx.source());
        let value = Value { id, ids, source, form: Form::Loose(ElementCount::Several) };
        self.axis(name, value, AxisRole::Made)
    }

    /// Like [`write`](Self::write), for channels of one value each: a flatten behind the layer has
    /// nothing to flatten.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_features(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        width: i64,
    ) -> Result<Axis> {
        let axis = self.write(name, width)?;
        self.axes[axis.index].form = Form::Loose(ElementCount::One);
        Ok(axis)
    }

    /// Adds an axis of the channels of `axis` at these positions.
    pub(crate) fn select(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        axis: Axis,
        positions: impl IntoIterator<Item = usize>,
    ) -> Result<Axis> {
        let whole = self.axes[self.known(axis)?].clone();
        let form = whole.form.clone();
        let select = Operator::select("select", positions);
        let part = self.in_front(|cx| cx.operate(select, &[&whole], form));
        self.axis(name, part, AxisRole::Followed)
    }

    /// The layer needs at least `least` channels of `axis`, or all of them if there are fewer.
    pub(crate) fn at_least(&mut self, axis: Axis, least: usize) -> Result<()> {
        let axis = self.known(axis)?;
        self.node().axes[axis].least = least;
        Ok(())
    }

    /// Holds the channels of `axis`: they are never removed.
    pub(crate) fn hold(&mut self, axis: Axis, reason: KeepReason) -> Result<()> {
        let ids = Rc::clone(&self.axes[self.known(axis)?].ids);
        self.node().holds.push(LayerHold::All(ids, reason));
        Ok(())
    }

    /// Field path of the layer.
    pub(crate) fn path(&self) -> String {
        self.cx.path()
    }

    /// The index of an axis of this layer; an error for an axis of another layer.
    pub(super) fn known(&self, axis: Axis) -> Result<usize> {
        if axis.layer == self.index {
            Ok(axis.index)
        } else {
            Err(self.cx.layer_error("it uses an axis of another layer".to_owned()))
        }
    }

    /// Resolves the layer's input, which must have `width` channels in dimension 1.
    pub(super) fn given(&mut self, input: &Flow, width: i64) -> Result<Value> {
        let value = self.in_front(|cx| match cx.constant_channels(input, 1, width) {
            Some(value) => Ok(value),
            None => cx.resolve(input, width),
        })?;
        self.arrived(&value);
        if let Form::Dims(shape) = &value.form {
            self.expect_channels(shape, 1)?;
        }
        Ok(value)
    }

    /// Checks that dimension `dim` of the layer's input, and no other, holds channels.
    fn expect_channels(&mut self, shape: &Shape, dim: usize) -> Result<()> {
        if self.frame.is_none() {
            self.frame = Some((shape.clone(), dim));
        }
        if shape.channel_dim() == Some(dim) || shape.digits().is_empty() {
            return Ok(());
        }
        let shape = shape.describe();
        Err(self.cx.layer_error(format!(
            "it reads channels from dimension {dim}, and is given {shape}; `permute` or `view` them to [N, C, …] before"
        )))
    }

    /// For each column of a weight that reads the last dimension of a tensor, the channel that the
    /// column reads; `None` where the columns are the channels, in order.
    fn columns(&self, shape: &Shape, features: i64) -> Result<Option<Vec<usize>>> {
        let Some(last) = shape.dims().last() else {
            return Err(self.cx.layer_error("it is given a number".to_owned()));
        };
        let elsewhere =
            shape.dims()[..shape.rank() - 1].iter().any(|dim| shape::holds_channels(dim));
        if elsewhere {
            return Err(self.cx.layer_error(format!(
                "it reads the last dimension, and is given {}; write `flatten(1, -1)`, or `permute` the channels to the end, before",
                shape.describe()
            )));
        }
        if let [Factor::Channels { count, .. }] = last[..]
            && count as i64 == features
        {
            return Ok(None);
        }
        let wrong = || {
            let shape = shape.describe();
            self.cx.layer_error(format!("it takes {features} features, and is given {shape}"))
        };
        let mut factors: Vec<i64> = last.iter().map(|factor| factor.size()).collect();
        let known: i64 = factors.iter().product();
        if known != features {
            // The sizes of the input are assumed, so the weight decides.
            let assumed = |factor: &Factor| matches!(factor, Factor::Size { assumed: true, .. });
            let mut unknown = (0..last.len()).filter(|&i| assumed(&last[i]));
            let (Some(at), None) = (unknown.next(), unknown.next()) else { return Err(wrong()) };
            let others = known / factors[at].max(1);
            if others == 0 || features % others != 0 {
                return Err(wrong());
            }
            factors[at] = features / others;
        }
        let mut channels = vec![0];
        for (factor, &size) in last.iter().zip(&factors) {
            let size = usize::try_from(size).map_err(|_| wrong())?;
            let step = |base: usize| {
                (0..size).map(move |at| if factor.is_channels() { base * size + at } else { base })
            };
            channels = channels.into_iter().flat_map(step).collect();
        }
        Ok(Some(channels))
    }

    /// The layer takes a tensor of this rank. An image has one dimension for each side of a kernel,
    /// and two more.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when the input has another rank.
    pub(crate) fn expect_rank(&mut self, rank: usize) -> Result<()> {
        match &self.frame {
            Some((shape, _)) if shape.rank() != rank => {
                let shape = shape.describe();
                Err(self
                    .cx
                    .layer_error(format!("it takes {rank} dimensions, and is given {shape}")))
            }
            Some(_) => Ok(()),
            None => {
                // The dimensions of the input are not known, so a shape of this rank is assumed.
                let width = self.axes.first().map(Value::len).filter(|_| self.cx.is_in_forward());
                self.frame = width.map(|width| (self.cx.assumed_shape(width, rank), 1));
                Ok(())
            }
        }
    }

    /// The layer outputs a vector of channels for each index in its input (an embedding).
    pub(crate) fn looks_up(&mut self, indices: &Flow) {
        let shape = indices.value().and_then(|value| value.form.shape().cloned());
        let width = indices.value().map_or(1, Value::len);
        let shape =
            shape.or_else(|| self.cx.is_in_forward().then(|| self.cx.assumed_shape(width, 2)));
        // Each index is a position: what is taken for channels of the indices are none behind it.
        let [several, ..] = self.cx.probe.positions;
        let position = |factor: &Factor| match *factor {
            Factor::Channels { count: 1, .. } => Factor::Size { size: several, assumed: true },
            Factor::Channels { count, .. } => Factor::Size { size: count as i64, assumed: true },
            size @ Factor::Size { .. } => size,
        };
        self.frame = shape.map(|shape| {
            let dims = shape.dims().iter().map(|dim| dim.iter().map(position).collect());
            (Shape::new(dims.chain([smallvec![Factor::channels(1)]])), shape.rank())
        });
    }

    /// Sets the dimensions of the layer's output, and which of them holds the channels.
    pub(crate) fn frame_of(&mut self, shape: Shape, dim: usize) {
        self.frame = Some((shape, dim));
    }

    /// Sets the number of uses of the layer's weight, unless it is set: each element is used once
    /// for each position of the current dimensions.
    pub(crate) fn count_uses(&mut self) {
        let Some((shape, dim)) = &self.frame else { return };
        // Positions in the channel dimension (behind a flatten) are read as features.
        let others = shape.dims().iter().enumerate().filter(|(index, _)| index != dim);
        let positions = others.map(|(_, other)| shape::size(other)).fold(1, i64::saturating_mul);
        let batch = self.cx.probe.batch;
        let uses = (positions % batch == 0).then_some(positions / batch);
        let node = self.node();
        node.uses = node.uses.or(uses);
    }

    /// Says that the layer's tensor takes part in no product.
    pub(crate) fn multiplies_nothing(&mut self) {
        self.node().uses = Some(0);
    }

    /// Whether the dimensions of the layer's input are known.
    pub(crate) fn knows_dimensions(&self) -> bool {
        self.frame.is_some()
    }

    /// Changes the sizes of the dimensions behind the channels. `resize` takes the number of the
    /// dimension, from 0, and its size.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when `resize` returns `None`: the
    /// tensor is too small.
    pub(crate) fn resize(&mut self, resize: impl Fn(usize, i64) -> Option<i64>) -> Result<()> {
        let Some((shape, dim)) = self.frame.take() else { return Ok(()) };
        let resized =
            shape::resized(&shape, dim + 1, resize).ok_or_else(|| self.cx.too_small(&shape))?;
        self.frame = Some((resized, dim));
        Ok(())
    }

    pub(super) fn arrived(&mut self, value: &Value) {
        let id = value.id;
        self.node().arrivals.push(id);
    }

    fn read_value(&mut self, name: impl Into<Cow<'static, str>>, value: Value) -> Result<Axis> {
        self.hold_ungated(&value);
        let axis = self.axis(name, value.clone(), AxisRole::Read)?;
        self.reads(axis, &value);
        Ok(axis)
    }

    /// Records that an axis mixes the channels of `value`; in a grouped layer, those of all groups.
    pub(super) fn reads(&mut self, axis: Axis, value: &Value) {
        let (axis, value) = (axis.index, value.id);
        self.node().reads.push(ReadNode { axis, value });
    }

    /// The layer sums the channels that it [reads](Self::read), weighted by its tensor `weight`,
    /// and adds its tensor `bias` if there is one.
    pub(crate) fn mixes(&mut self, groups: i64, reach: BiasExactness) {
        let groups = usize::try_from(groups).unwrap_or(1);
        self.node().mix = Some(MixNode { groups, reach });
    }

    /// Sets a batch norm's momentum.
    pub(crate) fn momentum(&mut self, momentum: Option<f64>) {
        self.node().momentum = momentum;
    }

    pub(super) fn hold_ungated(&mut self, value: &Value) {
        let id = value.id;
        self.node().holds.push(LayerHold::Ungated(id));
    }

    pub(super) fn axis(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: Value,
        role: AxisRole,
    ) -> Result<Axis> {
        let name = name.into();
        if self.node().axes.iter().any(|axis| axis.name == name) {
            return Err(self.cx.layer_error(format!("it has the axis `{name}` twice")));
        }
        let (id, ids) = (value.id, Rc::clone(&value.ids));
        self.node().axes.push(AxisNode { name, value: id, ids, role, least: 1 });
        self.axes.push(value);
        Ok(Axis { layer: self.index, index: self.axes.len() - 1 })
    }

    /// Records operations on the layer's input: moves their steps before the layer's step.
    pub(super) fn in_front<T>(&mut self, record: impl FnOnce(&mut Tracer) -> T) -> T {
        let before = self.cx.recording.steps.len();
        let recorded = record(self.cx);
        let steps = &mut self.cx.recording.steps;
        let added = steps.len() - before;
        steps[self.step..].rotate_right(added);
        self.step += added;
        recorded
    }

    pub(super) fn node(&mut self) -> &mut LayerNode {
        &mut self.cx.recording.layers[self.index]
    }
}
