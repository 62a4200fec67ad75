//! One layer of a trace: its lists of channels, and the tensor dimensions that follow them.

use std::rc::Rc;

use tch::Tensor;

use super::graph::{AxisNode, LayerNode, State, TensorNode};
use super::{TensorIdentity, Tracer};
use crate::flow::{ChannelId, Channels, Flow};
use crate::plan::{Hold, LayerKind, Role};
use crate::{Error, Result};

/// Describes one layer to a [`Tracer`].
pub struct LayerTracer<'t> {
    pub(super) cx: &'t mut Tracer,
    /// Position of the layer in the graph.
    index: usize,
    /// By axis: its channels as this layer sees them.
    pub(super) axes: Vec<Channels>,
}

/// A list of channels that dimensions of one layer's tensors follow, as returned by the methods of its [`LayerTracer`].
#[derive(Debug, Clone, Copy)]
pub struct Axis(pub(super) usize);

impl<'t> LayerTracer<'t> {
    pub(super) fn new(cx: &'t mut Tracer, kind: LayerKind) -> Self {
        let path = cx.path();
        cx.layers.push(LayerNode { path, kind, axes: Vec::new(), tensors: Vec::new(), score: None, states: Vec::new() });
        Self { index: cx.layers.len() - 1, cx, axes: Vec::new() }
    }

    /// The layer mixes `width` channels of `input` (a convolution). Those that arrive ungated are kept, since it would miss them.
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Tuple`].
    pub fn read(&mut self, name: &'static str, input: &Flow, width: i64) -> Result<Axis> {
        let channels = self.cx.resolve(input, width)?;
        Ok(self.read_channels(name, channels))
    }

    /// The layer mixes `features`, which are the channels of `input` or the channel-major flatten of them (a linear layer).
    ///
    /// # Errors
    /// [`Error::Width`] when `features` is no multiple of the channels, [`Error::Tuple`].
    pub fn read_flattened(&mut self, name: &'static str, input: &Flow, features: i64) -> Result<Axis> {
        let channels = self.cx.channels(input, usize::try_from(features).ok())?;
        let width = channels.len() as i64;
        if width == 0 || features % width != 0 {
            let hint = "; flattened, each channel gives the same number of features".to_owned();
            return Err(self.cx.width_error(features, "features", &channels, hint));
        }
        Ok(self.read_channels(name, channels.repeated((features / width) as usize)))
    }

    /// The layer treats each of the `width` channels of `input` by itself (a batch norm).
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Tuple`].
    pub fn follow(&mut self, name: &'static str, input: &Flow, width: i64) -> Result<Axis> {
        let channels = self.cx.resolve(input, width)?;
        Ok(self.axis(name, channels))
    }

    /// The layer makes `width` new channels.
    pub fn write(&mut self, name: &'static str, width: i64) -> Axis {
        let ids = self.cx.classes.fresh(usize::try_from(width).unwrap_or(0)).collect();
        let channels = Channels::new(ids, false, self.cx.source());
        self.axis(name, channels)
    }

    /// A trained tensor, and for each dimension that follows channels, which.
    ///
    /// # Errors
    /// [`Error::Shape`] when a dimension is not as wide as its axis, [`Error::NotALeaf`].
    pub fn parameter(&mut self, name: &'static str, tensor: &Tensor, axes: &[(usize, Axis)]) -> Result<()> {
        self.bind(name, tensor, axes, Role::Parameter)
    }

    /// A tensor that is not trained (running statistics), and for each dimension that follows channels, which.
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn buffer(&mut self, name: &'static str, tensor: &Tensor, axes: &[(usize, Axis)]) -> Result<()> {
        self.bind(name, tensor, axes, Role::Buffer)
    }

    /// A trained scale with one value per channel whose magnitude ranks the channels of `axis` (a batch norm's γ).
    ///
    /// # Errors
    /// As for [`parameter`](Self::parameter).
    pub fn score(&mut self, name: &'static str, scale: &Tensor, axis: Axis) -> Result<()> {
        self.bind(name, scale, &[(0, axis)], Role::Parameter)?;
        let node = self.node();
        let tensor = node.tensors.len() - 1;
        // A γ that was bound before has been counted before.
        if node.tensors[tensor].tied.is_none() {
            node.score = Some((tensor, axis.0));
        }
        Ok(())
    }

    /// A number stored in the layer that counts the channels of `axis`; [`LayerVisitor::size`](crate::LayerVisitor::size) updates it.
    pub fn size(&mut self, name: &'static str, axis: Axis) {
        self.state(name, State::Sizes(vec![axis.0]));
    }

    /// Numbers stored in the layer, each of which counts the channels of an axis; [`LayerVisitor::sizes`](crate::LayerVisitor::sizes) updates them.
    pub fn sizes(&mut self, name: &'static str, axes: &[Axis]) {
        self.state(name, State::Sizes(axes.iter().map(|axis| axis.0).collect()));
    }

    /// Positions stored in the layer: for each channel of `to`, where in `from` it comes from; [`LayerVisitor::indices`](crate::LayerVisitor::indices) updates them.
    pub fn indices(&mut self, name: &'static str, from: Axis, to: Axis) {
        self.state(name, State::Indices { from: from.0, to: to.0 });
    }

    /// State of a layer that is used twice is one: its channels are the same in both places.
    fn state(&mut self, name: &'static str, state: State) {
        let here = (self.index, self.node().states.len());
        let key = (self.cx.path(), name);
        let first = *self.cx.states.entry(key).or_insert(here);
        let axes = state.axes();
        self.node().states.push((name, state));
        if first == here {
            return;
        }
        let before = &self.cx.layers[first.0];
        let pairs = before.states[first.1].1.axes().into_iter().zip(axes);
        let pairs: Vec<_> =
            pairs.map(|(before_axis, axis)| (Rc::clone(&before.axes[before_axis].ids), Rc::clone(&self.axes[axis].ids))).collect();
        for (before, now) in pairs {
            before.iter().zip(now.iter()).for_each(|(&a, &b)| self.cx.classes.union(a, b));
        }
    }

    /// Part of an axis: the channels at these positions.
    pub(crate) fn select(&mut self, name: &'static str, axis: Axis, positions: impl IntoIterator<Item = usize>) -> Axis {
        let channels = self.axes[axis.0].select(positions);
        self.axis(name, channels)
    }

    /// Never removes the channels of `axis`.
    pub(crate) fn hold(&mut self, axis: Axis, hold: Hold) {
        let ids = self.axes[axis.0].ids.to_vec();
        self.cx.hold_ids(ids, hold);
    }

    /// Field path of the layer.
    pub(crate) fn path(&self) -> String {
        self.cx.path()
    }

    /// The channels of `axis`, as gated as the layer received them.
    pub fn pass(&self, axis: Axis) -> Flow {
        let channels = &self.axes[axis.0];
        Flow::Channels(Channels { source: self.cx.source(), ..channels.clone() })
    }

    /// The channels of `axis`, gated: zero once the layer's scale and shift are.
    pub fn gate(&self, axis: Axis) -> Flow {
        self.with_gate(axis, true)
    }

    /// The channels of `axis`, ungated: the layer adds something that no scale takes away.
    pub fn ungate(&self, axis: Axis) -> Flow {
        self.with_gate(axis, false)
    }

    fn with_gate(&self, axis: Axis, gated: bool) -> Flow {
        Channels::new(Rc::clone(&self.axes[axis.0].ids), gated, self.cx.source()).into()
    }

    fn read_channels(&mut self, name: &'static str, channels: Channels) -> Axis {
        self.hold_ungated(&channels);
        self.axis(name, channels)
    }

    pub(super) fn hold_ungated(&mut self, channels: &Channels) {
        let ungated = channels.ids.iter().zip(channels.gated.iter()).filter(|(_, gated)| !**gated);
        let missed = ungated.map(|(&id, _)| id).collect();
        self.cx.hold_ids(missed, Hold::Ungated { by: self.cx.path() });
    }

    pub(super) fn axis(&mut self, name: &'static str, channels: Channels) -> Axis {
        self.node().axes.push(AxisNode { name, ids: Rc::clone(&channels.ids) });
        self.axes.push(channels);
        Axis(self.axes.len() - 1)
    }

    fn bind(&mut self, name: &'static str, tensor: &Tensor, axes: &[(usize, Axis)], role: Role) -> Result<()> {
        self.check(name, tensor, axes)?;
        let mut dims = vec![None; tensor.dim()];
        for &(dim, axis) in axes {
            dims[dim] = Some(axis.0);
        }
        let tied = self.tie(tensor, &dims);
        let tensor = tensor.shallow_clone();
        self.node().tensors.push(TensorNode { name, tensor, axes: dims, role, tied });
        Ok(())
    }

    fn check(&self, name: &'static str, tensor: &Tensor, axes: &[(usize, Axis)]) -> Result<()> {
        let path = self.cx.path();
        if !tensor.f_is_leaf().map_err(Error::torch(format!("{path}.{name}")))? {
            return Err(Error::NotALeaf { path, tensor: name.to_owned() });
        }
        let shape = tensor.size();
        for &(dim, axis) in axes {
            let width = self.axes[axis.0].len() as i64;
            if shape.get(dim) != Some(&width) {
                let rule = format!("must have {width} in dimension {dim}");
                return Err(Error::Shape { path, tensor: name.to_owned(), shape, rule });
            }
        }
        Ok(())
    }

    /// Makes the channels of a tensor that was bound before the same in both places. A dimension that one place leaves alone is held.
    fn tie(&mut self, tensor: &Tensor, dims: &[Option<usize>]) -> Option<(usize, usize)> {
        let identity = TensorIdentity::of(tensor)?;
        let here = (self.index, self.cx.layers[self.index].tensors.len());
        let first = *self.cx.bound.entry(identity).or_insert(here);
        if first == here {
            return None;
        }
        let before = &self.cx.layers[first.0];
        let ids_before = |axis: usize| Rc::clone(&before.axes[axis].ids);
        let pairs: Vec<_> = before.tensors[first.1].axes.iter().map(|axis| axis.map(ids_before)).zip(dims).collect();
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
        Some(first)
    }

    fn hold_tied(&mut self, ids: &[ChannelId]) {
        self.cx.hold_ids(ids.to_vec(), Hold::Tied { by: self.cx.path() });
    }

    fn node(&mut self) -> &mut LayerNode {
        &mut self.cx.layers[self.index]
    }
}
