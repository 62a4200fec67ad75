//! One layer of a trace: its lists of channels, and the tensor dimensions that follow them.

use std::borrow::Cow;
use std::rc::Rc;

use tch::Tensor;

use super::graph::{
    AxisNode, AxisRole, Details, LayerNode, Maker, MixNode, Ranked, Reach, ReadNode, State,
    TensorNode, tensor_path,
};
use super::{Tracer, memory};
use crate::criterion::Masking;
use crate::flow::{ChannelId, Channels, Flow, Positions};
use crate::plan::{Hold, LayerKind, Role};
use crate::{Error, Result};

/// Describes one layer to a [`Tracer`].
pub struct LayerTracer<'t> {
    pub(super) cx: &'t mut Tracer,
    /// Position of the layer in the graph.
    pub(super) index: usize,
    /// By axis: its channels as this layer sees them.
    pub(super) axes: Vec<Channels>,
}

/// A list of channels that dimensions of one layer's tensors follow, as returned by the methods of its [`LayerTracer`].
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    layer: usize,
    index: usize,
}

impl<'t> LayerTracer<'t> {
    pub(super) fn new(cx: &'t mut Tracer, maker: Maker, kind: LayerKind) -> Self {
        let path = cx.path();
        cx.layers.push(LayerNode {
            path,
            kind,
            maker,
            axes: Vec::new(),
            tensors: Vec::new(),
            ranked: None,
            states: Vec::new(),
            details: Details::default(),
        });
        Self { index: cx.layers.len() - 1, cx, axes: Vec::new() }
    }

    /// The layer mixes `width` channels of `input` (a convolution). Those that arrive ungated are kept, since it would miss them.
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Tuple`].
    pub fn read(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let channels = self.given(input, width)?;
        self.read_channels(name, channels)
    }

    /// The layer mixes `features`, which are the channels of `input` or the channel-major flatten of them (a linear layer).
    ///
    /// # Errors
    /// [`Error::Width`] when `features` is no multiple of the channels, or another number where there is nothing to flatten; [`Error::Tuple`].
    pub fn read_flattened(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        features: i64,
    ) -> Result<Axis> {
        let channels = self.cx.channels(input, usize::try_from(features).ok())?;
        self.arrived(&channels);
        let width = channels.len() as i64;
        let hint = match channels.positions {
            _ if features == width => None,
            Positions::One => Some(
                "; each channel is one value here, so there is nothing to flatten (if it was expanded, say `flatten(a, positions)`)",
            ),
            Positions::Mixed => Some(
                "; its parts may have unlike positions, so say what is flattened, `flatten(a, positions)`, before or after they are concatenated",
            ),
            Positions::Several if width > 0 && features % width == 0 => None,
            Positions::Several => {
                Some("; flattened, each channel gives the same number of features")
            }
        };
        if let Some(hint) = hint {
            return Err(self.cx.width_error(features, "feature", &channels, hint.to_owned()));
        }
        self.read_channels(name, channels.repeated((features / width.max(1)) as usize))
    }

    /// The layer treats each of the `width` channels of `input` by itself (a batch norm).
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Tuple`].
    pub fn follow(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        input: &Flow,
        width: i64,
    ) -> Result<Axis> {
        let channels = self.given(input, width)?;
        self.axis(name, channels, AxisRole::Followed)
    }

    /// The layer makes `width` new channels.
    ///
    /// # Errors
    /// [`Error::Layer`] when the layer has an axis of this name.
    pub fn write(&mut self, name: impl Into<Cow<'static, str>>, width: i64) -> Result<Axis> {
        let ids = self.cx.classes.fresh(usize::try_from(width).unwrap_or(0)).collect();
        let mut channels = Channels::new(ids, false, self.cx.source());
        channels.sent = self.cx.sent_by_maker(channels.len());
        self.axis(name, channels, AxisRole::Made)
    }

    /// Like [`write`](Self::write), for channels that are one value each: behind them there is nothing to flatten.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_features(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        width: i64,
    ) -> Result<Axis> {
        let axis = self.write(name, width)?;
        self.axes[axis.index].positions = Positions::One;
        Ok(axis)
    }

    /// A trained tensor, and for each dimension that follows channels, which.
    ///
    /// # Errors
    /// [`Error::Shape`] when a dimension is not as wide as its axis, [`Error::NotALeaf`].
    pub fn parameter(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
    ) -> Result<()> {
        self.bind(name, tensor, axes, Role::Parameter)
    }

    /// A tensor that is not trained (running statistics), and for each dimension that follows channels, which.
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn buffer(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
    ) -> Result<()> {
        self.bind(name, tensor, axes, Role::Buffer)
    }

    /// A trained scale `[channels]` whose magnitudes rank the channels of `axis` (a batch norm's γ).
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn score(&mut self, name: &'static str, scale: &Tensor, axis: Axis) -> Result<()> {
        self.bind(name, scale, &[(0, axis)], Role::Parameter)?;
        let shape = scale.size();
        if shape.len() != 1 {
            let rule = "must have one value per channel and no other dimension".to_owned();
            return Err(Error::Shape {
                path: self.cx.path(),
                tensor: name.to_owned(),
                shape,
                rule,
            });
        }
        let node = self.node();
        node.ranked = Some(Ranked {
            tensor: node.tensors.len() - 1,
            dim: 0,
            axis: axis.index,
            is_scale: true,
            first: true,
        });
        Ok(())
    }

    /// A number stored in the layer that counts the channels of `axis`; [`LayerVisitor::size`](crate::LayerVisitor::size) updates it.
    ///
    /// # Errors
    /// [`Error::Layer`] when another layer at this path has state of this name.
    pub fn size(&mut self, name: &'static str, axis: Axis) -> Result<()> {
        self.sizes(name, &[axis])
    }

    /// Numbers stored in the layer, each of which counts the channels of an axis; [`LayerVisitor::sizes`](crate::LayerVisitor::sizes) updates them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn sizes(&mut self, name: &'static str, axes: &[Axis]) -> Result<()> {
        let axes = axes.iter().map(|&axis| self.known(axis)).collect::<Result<_>>()?;
        self.state(name, State::Sizes(axes))
    }

    /// Positions stored in the layer: for each channel of `to`, where in `from` it comes from; [`LayerVisitor::indices`](crate::LayerVisitor::indices) updates them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn indices(&mut self, name: &'static str, from: Axis, to: Axis) -> Result<()> {
        let (from, to) = (self.known(from)?, self.known(to)?);
        self.state(name, State::Indices { from, to })
    }

    /// State of a layer that is used twice is one: its channels are the same in both places.
    fn state(&mut self, name: &'static str, state: State) -> Result<()> {
        let here = (self.index, self.node().states.len());
        let key = (self.cx.path(), name);
        let first = *self.cx.states.entry(key).or_insert(here);
        let axes = state.axes();
        self.node().states.push((name, state));
        if first == here {
            return Ok(());
        }
        let before = &self.cx.layers[first.0];
        let ids_before: Vec<_> = before.states[first.1]
            .1
            .axes()
            .into_iter()
            .map(|axis| Rc::clone(&before.axes[axis].ids))
            .collect();
        let ids_now: Vec<_> =
            axes.into_iter().map(|axis| Rc::clone(&self.axes[axis].ids)).collect();
        if ids_before.iter().map(|ids| ids.len()).ne(ids_now.iter().map(|ids| ids.len())) {
            return Err(self.cx.layer_error(format!(
                "two layers have `{name}` here; give each a name of its own with `Tracer::field`"
            )));
        }
        for (before, now) in ids_before.iter().zip(ids_now) {
            before.iter().zip(now.iter()).for_each(|(&a, &b)| self.cx.classes.union(a, b));
        }
        Ok(())
    }

    /// Part of an axis: the channels at these positions.
    pub(crate) fn select(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        axis: Axis,
        positions: impl IntoIterator<Item = usize>,
    ) -> Result<Axis> {
        let channels = self.axes[self.known(axis)?].select(positions);
        self.axis(name, channels, AxisRole::Followed)
    }

    /// The layer needs so many channels of `axis`, where it has as many.
    pub(crate) fn at_least(&mut self, axis: Axis, least: usize) -> Result<()> {
        let axis = self.known(axis)?;
        self.node().axes[axis].least = least;
        Ok(())
    }

    /// Never removes the channels of `axis`.
    pub(crate) fn hold(&mut self, axis: Axis, hold: Hold) -> Result<()> {
        let ids = self.axes[self.known(axis)?].ids.to_vec();
        self.cx.hold_ids(ids, hold);
        Ok(())
    }

    /// Field path of the layer.
    pub(crate) fn path(&self) -> String {
        self.cx.path()
    }

    /// The channels of `axis` as they are: as gated as the layer received them. Where the layer [made](Self::write) them they are ungated, unless they have parameters and
    /// [all of those](Masking::Parameters) are zero when a channel is gone: the layer gives zeros then, or says [`ungate`](Self::ungate).
    ///
    /// # Errors
    /// [`Error::Layer`] when the axis is another layer's.
    pub fn pass(&self, axis: Axis) -> Result<Flow> {
        let channels = self.axes[self.known(axis)?].clone();
        let made = self.cx.layers[self.index].axes[axis.index].role == AxisRole::Made;
        let sent = if made {
            channels.sent.clone()
        } else {
            self.cx.unknown_but_zero(channels.sent.as_deref())
        };
        let origin = (made && self.cx.is_detailed()).then_some(self.index);
        let gated = match made && self.cx.masking == Masking::Parameters && self.has_parameters() {
            true => vec![true; channels.len()].into(),
            false => Rc::clone(&channels.gated),
        };
        Ok(Flow::Channels(self.left(Channels {
            source: self.cx.source(),
            sent,
            origin,
            gated,
            ..channels
        })))
    }

    /// Whether what the layer makes depends on parameters that follow it.
    fn has_parameters(&self) -> bool {
        let node = &self.cx.layers[self.index];
        let makes = |axis: &Option<usize>| {
            axis.is_some_and(|axis| {
                matches!(node.axes[axis].role, AxisRole::Made | AxisRole::MadePart)
            })
        };
        node.tensors
            .iter()
            .any(|tensor| tensor.role == Role::Parameter && tensor.axes.iter().any(makes))
    }

    /// Like [`pass`](Self::pass), of a layer that only moves channels: values are as they are too.
    pub(crate) fn move_on(&self, axis: Axis) -> Result<Flow> {
        let channels = self.axes[self.known(axis)?].clone();
        Ok(Flow::Channels(self.left(Channels { source: self.cx.source(), ..channels })))
    }

    /// The channels of `axis`, gated: zero once the layer's scale and shift are.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn gate(&self, axis: Axis) -> Result<Flow> {
        self.with_gate(axis, true)
    }

    /// Like [`gate`](Self::gate), of a batch norm: its shift is what is left.
    pub(crate) fn gate_to(&self, axis: Axis, shift: Option<&Tensor>) -> Result<Flow> {
        let sent = self.cx.sent_by_norm(shift, self.axes[self.known(axis)?].len())?;
        Ok(match self.with_gate(axis, true)? {
            Flow::Channels(channels) => Flow::Channels(Channels { sent, ..channels }),
            flow => flow,
        })
    }

    /// The channels of `axis`, ungated: the layer adds something that is not zero when its parameters are.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn ungate(&self, axis: Axis) -> Result<Flow> {
        self.with_gate(axis, false)
    }

    /// The channels of `axis` with a parameter added to each: ungated, unless [all parameters](Masking::Parameters) are zero when a channel is gone.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn shift(&self, axis: Axis) -> Result<Flow> {
        if self.cx.masking == Masking::Parameters { self.pass(axis) } else { self.ungate(axis) }
    }

    /// `flow`, as the whole output of this layer, which makes its channels of others one by one or group by group.
    pub(crate) fn whole(&self, flow: Flow) -> Flow {
        match flow {
            Flow::Channels(channels) if self.cx.is_detailed() => {
                Flow::Channels(Channels { origin: Some(self.index), ..channels })
            }
            flow => flow,
        }
    }

    fn with_gate(&self, axis: Axis, gated: bool) -> Result<Flow> {
        let channels = self.axes[self.known(axis)?].clone();
        let gated = vec![gated; channels.len()].into();
        let sent = self.cx.unknown_but_zero(channels.sent.as_deref());
        Ok(Flow::Channels(self.left(Channels {
            source: self.cx.source(),
            gated,
            sent,
            ..channels
        })))
    }

    /// Where this layer's axis is.
    pub(super) fn known(&self, axis: Axis) -> Result<usize> {
        if axis.layer == self.index {
            Ok(axis.index)
        } else {
            Err(self.cx.layer_error("it uses an axis of another layer".to_owned()))
        }
    }

    fn read_channels(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        channels: Channels,
    ) -> Result<Axis> {
        self.hold_ungated(&channels);
        let axis = self.axis(name, channels.clone(), AxisRole::Read)?;
        self.reads(axis, &channels);
        Ok(axis)
    }

    /// What an axis that the layer mixes is sent.
    pub(super) fn reads(&mut self, axis: Axis, channels: &Channels) {
        if self.cx.is_detailed() {
            let sent = self.cx.known_or_not(channels);
            self.node().details.reads.push(ReadNode { axis: axis.index, sent });
        }
    }

    /// The layer sums what it [reads](Self::read), weighted by the tensor `weight`, and adds `bias` if it has one.
    pub(crate) fn mixes(&mut self, groups: i64, reach: Reach) {
        let groups = usize::try_from(groups).unwrap_or(1);
        self.node().details.mix = Some(MixNode { groups, reach });
    }

    /// A batch norm's momentum, and the layer that it is directly behind.
    pub(crate) fn norm(&mut self, momentum: Option<f64>, behind: Option<usize>) {
        let details = &mut self.node().details;
        (details.momentum, details.behind) = (momentum, behind);
    }

    pub(super) fn hold_ungated(&mut self, channels: &Channels) {
        let ungated = channels.ids.iter().zip(channels.gated.iter()).filter(|(_, gated)| !**gated);
        let missed = ungated.map(|(&id, _)| id).collect();
        self.cx.hold_ids(missed, Hold::Ungated { by: self.cx.path() });
    }

    pub(super) fn axis(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        channels: Channels,
        role: AxisRole,
    ) -> Result<Axis> {
        let name = name.into();
        if self.node().axes.iter().any(|axis| axis.name == name) {
            return Err(self.cx.layer_error(format!("it has the axis `{name}` twice")));
        }
        self.node().axes.push(AxisNode { name, ids: Rc::clone(&channels.ids), role, least: 1 });
        self.axes.push(channels);
        Ok(Axis { layer: self.index, index: self.axes.len() - 1 })
    }

    fn bind(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        axes: &[(usize, Axis)],
        role: Role,
    ) -> Result<()> {
        let axes = axes
            .iter()
            .map(|&(dim, axis)| Ok((dim, self.known(axis)?)))
            .collect::<Result<Vec<_>>>()?;
        self.check(name, tensor, &axes)?;
        let mut dims = vec![None; tensor.dim()];
        for (dim, axis) in axes {
            dims[dim] = Some(axis);
        }
        let tied = self.tie(name, tensor, &dims)?;
        let tensor = tensor.shallow_clone();
        let node = self.node();
        // What makes channels has a value for each of them and each of something else, which a bias has not.
        let makes = |axis: &Option<usize>| {
            axis.is_some_and(|axis| {
                matches!(node.axes[axis].role, AxisRole::Made | AxisRole::MadePart)
            })
        };
        if let (None, Role::Parameter, 2.., Some(dim)) =
            (&node.ranked, role, dims.len(), dims.iter().position(makes))
        {
            let axis = dims[dim].unwrap_or_default();
            node.ranked = Some(Ranked {
                tensor: node.tensors.len(),
                dim,
                axis,
                is_scale: false,
                first: true,
            });
        }
        node.tensors.push(TensorNode { name, tensor, axes: dims, role, tied });
        Ok(())
    }

    fn check(&self, name: &'static str, tensor: &Tensor, axes: &[(usize, usize)]) -> Result<()> {
        let path = self.cx.path();
        if !tensor.f_is_leaf().map_err(Error::torch(format!("{path}.{name}")))? {
            return Err(Error::NotALeaf { path, tensor: name.to_owned() });
        }
        let shape = tensor.size();
        for &(dim, axis) in axes {
            let width = self.axes[axis].len() as i64;
            if shape.get(dim) != Some(&width) {
                let rule = format!("must have {width} in dimension {dim}");
                return Err(Error::Shape { path, tensor: name.to_owned(), shape, rule });
            }
        }
        Ok(())
    }

    /// Makes the channels of a tensor that was bound before the same in both places. A dimension that one place leaves alone is held.
    fn tie(
        &mut self,
        name: &'static str,
        tensor: &Tensor,
        dims: &[Option<usize>],
    ) -> Result<Option<(usize, usize)>> {
        let Some((address, layout)) = memory(tensor) else { return Ok(None) };
        let here = (self.index, self.cx.layers[self.index].tensors.len());
        let (first, first_layout) =
            self.cx.bound.entry(address).or_insert_with(|| (here, layout.clone()));
        let first = *first;
        if first == here {
            return Ok(None);
        }
        if *first_layout != layout {
            let owner = tensor_path(&self.cx.layers, first);
            return Err(Error::NotShared { path: self.cx.path(), tensor: name.to_owned(), owner });
        }
        let before = &self.cx.layers[first.0];
        let ids_before = |axis: usize| Rc::clone(&before.axes[axis].ids);
        let pairs: Vec<_> = before.tensors[first.1]
            .axes
            .iter()
            .map(|axis| axis.map(ids_before))
            .zip(dims)
            .collect();
        for pair in pairs {
            match pair {
                (Some(before), &Some(axis)) => {
                    let now = Rc::clone(&self.axes[axis].ids);
                    before.iter().zip(now.iter()).for_each(|(&a, &b)| self.cx.classes.union(a, b));
                }
                (Some(free), None) => self.hold_tied(&free),
                (None, &Some(axis)) => self.hold_tied(&Rc::clone(&self.axes[axis].ids)),
                (None, None) => {}
            }
        }
        Ok(Some(first))
    }

    fn hold_tied(&mut self, ids: &[ChannelId]) {
        self.cx.hold_ids(ids.to_vec(), Hold::Tied { by: self.cx.path() });
    }

    pub(super) fn node(&mut self) -> &mut LayerNode {
        &mut self.cx.layers[self.index]
    }
}
