//! The symbolic forward pass: who is called with which channels.

mod graph;
mod groups;
mod layer;
mod ops;
mod sent;
mod union_find;
mod writers;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::rc::Rc;

use tch::Tensor;

use crate::criterion::Masking;
use crate::flow::{ChannelId, Channels, Flow, OpenFlow};
use crate::plan::{Hold, LayerKind};
use crate::{Error, Result};
pub(crate) use graph::{
    AxisNode, AxisRole, Graph, LayerNode, Maker, MixNode, Ranked, Reach, ReadNode, State,
    TensorNode,
};
pub use layer::{Axis, LayerTracer};
pub(crate) use ops::shuffled;
pub(crate) use sent::Sent;
pub(crate) use union_find::UnionFind;
pub(crate) use writers::{Arrival, Writers};

/// Records channel dependencies while a model's [`trace`](crate::Prunable::trace) runs.
///
/// A composite calls [`field`](Self::field) for each of its parts; a layer calls [`layer`](Self::layer) and says which
/// dimension of which tensor follows which channels.
#[derive(Default)]
pub struct Tracer {
    /// What is zero when a channel is gone.
    masking: Masking,
    scope: Vec<String>,
    layers: Vec<LayerNode>,
    classes: UnionFind,
    /// Channels that must stay, and why.
    holds: Vec<(Vec<ChannelId>, Hold)>,
    /// The model's inputs, once their width is known.
    inputs: Vec<Option<Channels>>,
    /// Where the tensor at each address was bound first.
    bound: HashMap<usize, ((usize, usize), Layout)>,
    /// Where each piece of state was declared first, by path and name.
    states: HashMap<(String, &'static str), (usize, usize)>,
    /// Whether what is beside a plan is recorded too: what channels send, how statistics are updated.
    detailed: bool,
    /// Whether it is recorded which layers channels come from.
    charted: bool,
    /// Whether it is asked for the tensors alone, which a deployed model has too.
    listing: bool,
    /// The model, and the parts that are being traced, the innermost last.
    root: sent::Scope,
    scopes: Vec<sent::Scope>,
    /// By layer: how often its whole output is read.
    uses: HashMap<usize, usize>,
}

/// Sizes and strides.
pub(crate) type Layout = (Vec<i64>, Vec<i64>);

/// Where a tensor's values are and how they lie.
pub(crate) type Memory = (usize, Layout);

/// Two handles of one tensor have the same; `None` for a tensor without memory, which is no other.
pub(crate) fn memory(tensor: &Tensor) -> Option<Memory> {
    let size = tensor.size();
    let none = tensor.is_sparse() || tensor.is_mkldnn() || size.contains(&0);
    (!none).then(|| (tensor.data_ptr() as usize, (size, tensor.stride())))
}

impl Tracer {
    pub(crate) fn new(masking: Masking) -> Self {
        Self { masking, ..Self::default() }
    }

    /// One that records what is beside a plan too, for absorption and recalibration.
    pub(crate) fn detailed() -> Self {
        Tracer { detailed: true, ..Tracer::default() }
    }

    /// One that is asked for nothing but the model's tensors.
    pub(crate) fn listing() -> Self {
        Tracer { listing: true, ..Tracer::default() }
    }

    /// # Errors
    /// [`Error::Deployed`], unless it is about tensors alone: a part whose batch norm is folded or whose weight is packed cannot be changed any more.
    pub(crate) fn refuse_deployed(&self, deployed: bool) -> Result<()> {
        if deployed && !self.listing { Err(Error::Deployed { path: self.path() }) } else { Ok(()) }
    }

    pub(crate) fn is_detailed(&self) -> bool {
        self.detailed
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
        self.enter();
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

    /// Starts a layer at the current path. If it has a weight, its forward pass says how often that is used: see [`nn::record_macs`](crate::nn::record_macs).
    pub fn layer(&mut self, kind: LayerKind) -> LayerTracer<'_> {
        self.layer_by(Maker::User, kind)
    }

    /// Starts a layer of this crate's or of tch's.
    pub(crate) fn layer_by(&mut self, maker: Maker, kind: LayerKind) -> LayerTracer<'_> {
        LayerTracer::new(self, maker, kind)
    }

    /// Never removes these channels. An open flow is held anyway, as the model's input.
    pub fn keep(&mut self, flow: &Flow) {
        self.hold(flow, &Hold::Keep { by: self.path() });
    }

    /// Fixes the width of an open flow, or checks that a flow has this width.
    ///
    /// # Errors
    /// [`Error::Width`] when it has another, [`Error::Tuple`].
    pub fn expect_input(&mut self, flow: &Flow, width: i64) -> Result<Flow> {
        self.resolve(flow, width).map(Flow::Channels)
    }

    /// Like [`expect_input`](Self::expect_input) for a model of several inputs, one of each width.
    ///
    /// # Errors
    /// [`Error::Part`] when there are not as many inputs as widths, [`Error::Width`].
    pub fn expect_inputs(&mut self, input: &Flow, widths: &[i64]) -> Result<Flow> {
        match self.inputs(input, widths.len())? {
            Flow::Tuple(parts) => parts
                .iter()
                .zip(widths)
                .map(|(part, &width)| self.expect_input(part, width))
                .collect::<Result<_>>()
                .map(Flow::Tuple),
            one => Ok(one),
        }
    }

    /// The tensors that were bound, once each, by path.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let bound = self
            .layers
            .iter()
            .flat_map(|layer| layer.tensors.iter().map(move |bound| (layer, bound)));
        let own = bound.filter(|(_, bound)| bound.tied.is_none());
        own.map(|(layer, bound)| {
            (format!("{}.{}", layer.path, bound.name), bound.tensor.shallow_clone())
        })
        .collect()
    }

    /// Field path of the part that is being traced.
    pub(crate) fn path(&self) -> String {
        if self.scope.is_empty() { "model".to_owned() } else { self.scope.join(".") }
    }

    /// A new input of the model.
    pub(crate) fn open(&mut self) -> Flow {
        self.inputs.push(None);
        Flow::Open(OpenFlow { index: self.inputs.len() - 1 })
    }

    /// How many channels a flow has, where that is known.
    pub(crate) fn known_width(&self, flow: &Flow) -> Option<i64> {
        match flow {
            Flow::Channels(channels) => Some(channels.len() as i64),
            Flow::Open(open) => {
                self.inputs[open.index].as_ref().map(|channels| channels.len() as i64)
            }
            Flow::Tuple(_) => None,
        }
    }

    /// The channels of a flow that must have `width` of them.
    fn resolve(&mut self, flow: &Flow, width: i64) -> Result<Channels> {
        let channels = self.channels(flow, usize::try_from(width).ok())?;
        if channels.len() as i64 == width {
            return Ok(channels);
        }
        let hint =
            "; a field reads the one declared before it, unless `from` says otherwise".to_owned();
        Err(self.width_error(width, "channel", &channels, hint))
    }

    /// The channels of a flow. An open one is fixed to `width` where that is known.
    fn channels(&mut self, flow: &Flow, width: Option<usize>) -> Result<Channels> {
        match flow {
            Flow::Channels(channels) => {
                self.used(channels);
                Ok(Channels { origin: None, ..channels.clone() })
            }
            Flow::Tuple(flows) => Err(Error::Tuple { path: self.path(), found: flows.len() }),
            Flow::Open(open) => match (&self.inputs[open.index], width) {
                (Some(channels), _) => Ok(channels.clone()),
                (None, Some(width)) => Ok(self.fix_input(open.index, width)),
                (None, None) => Err(Error::OpenInput { path: self.path() }),
            },
        }
    }

    fn fix_input(&mut self, index: usize, width: usize) -> Channels {
        let ids: Rc<[ChannelId]> = self.classes.fresh(width).collect();
        let writers = self.no_writers(width);
        let channels =
            Channels { writers, ..Channels::new(ids, false, "the model's input".into()) };
        self.inputs[index] = Some(channels.clone());
        self.hold(&channels.clone().into(), &Hold::Input);
        channels
    }

    pub(crate) fn layer_error(&self, reason: String) -> Error {
        Error::Layer { path: self.path(), reason }
    }

    fn width_error(
        &self,
        expected: i64,
        unit: &'static str,
        channels: &Channels,
        hint: String,
    ) -> Error {
        let source = channels.source.to_string();
        Error::Width {
            path: self.path(),
            expected,
            unit,
            source_name: source,
            found: channels.len() as i64,
            hint,
        }
    }

    /// Holds every channel of a flow.
    fn hold(&mut self, flow: &Flow, hold: &Hold) {
        match flow {
            Flow::Open(open) => {
                if let Some(channels) = self.inputs[open.index].clone() {
                    self.hold(&channels.into(), hold);
                }
            }
            Flow::Channels(channels) => self.hold_ids(channels.ids.to_vec(), hold.clone()),
            Flow::Tuple(flows) => flows.iter().for_each(|flow| self.hold(flow, hold)),
        }
    }

    fn hold_ids(&mut self, ids: Vec<ChannelId>, hold: Hold) {
        if !ids.is_empty() {
            self.holds.push((ids, hold));
        }
    }

    /// Ends the trace of a whole model: its output cannot be removed.
    pub(crate) fn finish(mut self, output: &Flow) -> Graph {
        self.hold(output, &Hold::Output);
        self.count_output(output);
        let class = self.classes.into_roots();
        let mut held = vec![None; class.len()];
        for (ids, hold) in self.holds {
            let hold = Rc::new(hold);
            for id in ids {
                held[class[id as usize] as usize].get_or_insert_with(|| Rc::clone(&hold));
            }
        }
        mark_first(&mut self.layers);
        graph::mark_norms(&mut self.layers, &self.uses);
        Graph { layers: self.layers, class, held }
    }
}

impl Tracer {
    fn count_output(&mut self, output: &Flow) {
        match output {
            Flow::Channels(channels) => self.used(channels),
            Flow::Tuple(flows) => flows.iter().for_each(|flow| self.count_output(flow)),
            Flow::Open(_) => {}
        }
    }
}

/// A tensor that several layers share ranks, and counts, once.
fn mark_first(layers: &mut [LayerNode]) {
    let mut seen = HashSet::new();
    for (index, layer) in layers.iter_mut().enumerate() {
        if let Some(ranked) = &mut layer.ranked {
            ranked.first =
                seen.insert(layer.tensors[ranked.tensor].tied.unwrap_or((index, ranked.tensor)));
        }
    }
}
