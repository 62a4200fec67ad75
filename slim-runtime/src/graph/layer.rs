//! One layer of a trace: the channels that it reads, makes and gives.

use std::borrow::Cow;
use std::rc::Rc;

use smallvec::smallvec;

use super::node::{
    AxisNode, AxisRole, BiasExactness, LayerGate, LayerHold, LayerNode, LayerResult, MixNode,
    ReadNode,
};
use super::shape::{self, Factor, Shape};
use super::value::{ElementCount, Form, Value};
use super::{Operator, Step, Tracer};
use crate::graph::KeepReason;
use crate::{Flow, Result};

/// Describes one layer to a [`Tracer`].
pub struct LayerTracer<'t> {
    pub(super) cx: &'t mut Tracer,
    /// Position of the layer in the graph.
    pub(super) index: usize,
    /// Position of its step in the graph. What it does to its inputs is recorded in front of it.
    step: usize,
    /// By axis: its channels as this layer sees them.
    pub(super) axes: Vec<Value>,
    /// The dimensions of what it gives, and which of them holds the channels, where they are known.
    frame: Option<(Shape, usize)>,
}

/// A list of channels that dimensions of one layer's tensors follow, as returned by the methods of
/// its [`LayerTracer`].
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

    /// The layer mixes `width` channels of `input` (a convolution). Those that arrive ungated are
    /// kept, since it would miss them.
    ///
    /// # Errors
    /// [`Error::Width`](crate::Error::Width), [`Error::Tuple`](crate::Error::Tuple).
    pub fn read(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let value = self.given(input, width)?;
        self.read_value(name, value)
    }

    /// The layer mixes `features`, which are the channels of `input` or the channel-major flatten
    /// of them (a linear layer).
    ///
    /// # Errors
    /// [`Error::Width`](crate::Error::Width) when `features` is no multiple of the channels, or
    /// another number where there is nothing to flatten; [`Error::Tuple`](crate::Error::Tuple).
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
    /// [`Error::Width`](crate::Error::Width), [`Error::Tuple`](crate::Error::Tuple).
    pub fn follow(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let value = self.given(input, width)?;
        self.axis(name, value, AxisRole::Followed)
    }

    /// Like [`follow`](Self::follow), where the channels may be any dimension of what the layer is
    /// given.
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

    /// The layer mixes the positions in the last dimension, `features` of which it takes, into
    /// `outputs` others, for each channel by itself.
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
    /// [`Error::Layer`](crate::Error::Layer) when the layer has an axis of this name.
    pub fn write(&mut self, name: impl Into<Cow<'static, str>>, width: i64) -> Result<Axis> {
        let ids = self.cx.recording.fresh(usize::try_from(width).unwrap_or(0));
        let (id, source) = (self.cx.recording.value(Rc::clone(&ids)), self.cx.source());
        let value = Value { id, ids, source, form: Form::Loose(ElementCount::Several) };
        self.axis(name, value, AxisRole::Made)
    }

    /// Like [`write`](Self::write), for channels that are one value each: behind them there is
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

    /// Part of an axis: the channels at these positions.
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

    /// The layer needs so many channels of `axis`, where it has as many.
    pub(crate) fn at_least(&mut self, axis: Axis, least: usize) -> Result<()> {
        let axis = self.known(axis)?;
        self.node().axes[axis].least = least;
        Ok(())
    }

    /// Never removes the channels of `axis`.
    pub(crate) fn hold(&mut self, axis: Axis, hold: KeepReason) -> Result<()> {
        let ids = Rc::clone(&self.axes[self.known(axis)?].ids);
        self.node().holds.push(LayerHold::All(ids, hold));
        Ok(())
    }

    /// Field path of the layer.
    pub(crate) fn path(&self) -> String {
        self.cx.path()
    }

    /// The channels of `axis` as they are: as gated as the layer received them. Where the layer
    /// [made](Self::write) them they are ungated, unless they have parameters and
    /// [all of those](crate::criterion::Masking::Parameters) are zero when a channel is gone: the
    /// layer gives zeros then, or says [`ungate`](Self::ungate).
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) when the axis is another layer's.
    pub fn pass(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pass, |_| {})
    }

    /// Like [`pass`](Self::pass), of a layer that only moves channels: values are as they are too.
    pub(crate) fn move_on(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pass, |result| (result.moves, result.whole) = (true, false))
    }

    /// The channels of `axis`, gated: zero once the layer's scale and shift are.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn gate(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Always, |_| {})
    }

    /// Like [`gate`](Self::gate), of a batch norm: its shift, if it has one, is what is left when
    /// its scale is zero.
    pub(crate) fn gate_to(&mut self, axis: Axis, shift: Option<&'static str>) -> Result<Flow> {
        let tensors = &self.node().tensors;
        let shift = shift.and_then(|name| tensors.iter().position(|tensor| tensor.name == name));
        self.leave(axis, LayerGate::Always, |result| result.shift = Some(shift))
    }

    /// The channels of `axis`, ungated: the layer adds something that is not zero when its
    /// parameters are.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn ungate(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Never, |_| {})
    }

    /// The channels of `axis` with a parameter added to each: ungated, unless
    /// [all parameters](crate::criterion::Masking::Parameters) are zero when a channel is gone.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn shift(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Shift, |_| {})
    }

    /// The channels of `axis`, divided by a parameter.
    pub(crate) fn divide(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Divide, |_| {})
    }

    /// A parameter divided by the channels of `axis`.
    pub(crate) fn divide_by(&mut self, axis: Axis) -> Result<Flow> {
        self.leave(axis, LayerGate::Pole, |_| {})
    }

    /// The whole output of a layer that makes its channels of others one by one or group by group:
    /// [`pass`](Self::pass), or with a bias [`shift`](Self::shift).
    pub(crate) fn pass_whole(&mut self, axis: Axis, has_bias: bool) -> Result<Flow> {
        let gate = if has_bias { LayerGate::Shift } else { LayerGate::Pass };
        self.leave(axis, gate, |result| result.whole = true)
    }

    fn leave(
        &mut self,
        axis: Axis,
        gate: LayerGate,
        say: impl FnOnce(&mut LayerResult),
    ) -> Result<Flow> {
        let axis = self.known(axis)?;
        let Value { ids, form, .. } = self.axes[axis].clone();
        let form = match &self.frame {
            Some((shape, dim)) => {
                Form::Dims(shape.with(*dim, smallvec![Factor::channels(ids.len())]))
            }
            None => form,
        };
        let (value, source) = (self.cx.recording.value(Rc::clone(&ids)), self.cx.source());
        let made = self.node().axes[axis].role == AxisRole::Made;
        let whole = made && gate == LayerGate::Pass;
        self.count_uses();
        let mut result = LayerResult { value, axis, gate, moves: false, shift: None, whole };
        say(&mut result);
        self.node().results.push(result);
        Ok(Value { id: value, ids, source, form }.into())
    }

    /// Where this layer's axis is.
    pub(super) fn known(&self, axis: Axis) -> Result<usize> {
        if axis.layer == self.index {
            Ok(axis.index)
        } else {
            Err(self.cx.layer_error("it uses an axis of another layer".to_owned()))
        }
    }

    /// The channels of a flow that must have `width` of them, which the layer is given.
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

    /// Channels must be this dimension of what the layer is given, and no other.
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

    /// For each column of a weight that reads the last dimension of a tensor, the channel that it
    /// reads; `None` where they are the channels, one by one.
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
            // The sizes of the input are assumed: the weight knows better.
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

    /// The layer is given a tensor of this rank: an image has one dimension for each side of a
    /// kernel, and two more.
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) when it has another rank.
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
                // An input that nothing has said anything of.
                let width = self.axes.first().map(Value::len).filter(|_| self.cx.is_in_forward());
                self.frame = width.map(|width| (self.cx.assumed_shape(width, rank), 1));
                Ok(())
            }
        }
    }

    /// The layer gives a vector of channels for each index that it is given.
    pub(crate) fn looks_up(&mut self, indices: &Flow) {
        let shape = indices.value().and_then(|value| value.form.shape().cloned());
        let shape = shape.or_else(|| self.cx.is_in_forward().then(|| self.cx.assumed_shape(1, 2)));
        self.frame = shape.map(|shape| {
            let dims = shape.dims().iter().cloned().chain([smallvec![Factor::channels(1)]]);
            (Shape::new(dims), shape.rank())
        });
    }

    /// The dimensions of what the layer gives, and which of them holds the channels.
    pub(crate) fn frame_of(&mut self, shape: Shape, dim: usize) {
        self.frame = Some((shape, dim));
    }

    /// Each value of the layer's weight is used once for each position that it has now.
    pub(crate) fn count_uses(&mut self) {
        let Some((shape, dim)) = &self.frame else { return };
        // What stands in one dimension with the channels is read with them.
        let others = shape.dims().iter().enumerate().filter(|(index, _)| index != dim);
        let positions = others.map(|(_, other)| shape::size(other)).fold(1, i64::saturating_mul);
        let batch = self.cx.probe.batch;
        let uses = (positions % batch == 0).then_some(positions / batch);
        let node = self.node();
        node.uses = node.uses.or(uses);
    }

    /// Whether the dimensions of what the layer is given are known.
    pub(crate) fn knows_dimensions(&self) -> bool {
        self.frame.is_some()
    }

    /// Changes the sizes of the dimensions behind the channels. `resize` is given the number of the
    /// dimension, from 0, and its size.
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) when it returns `None`: the tensor is too small.
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

    /// The channels that an axis mixes, of all groups.
    pub(super) fn reads(&mut self, axis: Axis, value: &Value) {
        let (axis, value) = (axis.index, value.id);
        self.node().reads.push(ReadNode { axis, value });
    }

    /// The layer sums what it [reads](Self::read), weighted by the tensor `weight`, and adds `bias`
    /// if it has one.
    pub(crate) fn mixes(&mut self, groups: i64, reach: BiasExactness) {
        let groups = usize::try_from(groups).unwrap_or(1);
        self.node().mix = Some(MixNode { groups, reach });
    }

    /// A batch norm's momentum.
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

    /// Records what happens to an input in front of the layer.
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
