//! The time of each layer as a function of its widths.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::places::{Place, Places, must_report, tensors};
use super::{Graph, Masking};
use crate::error::{CheckError, SelectionError};
use crate::graph::{KeepReason, LayerKind, LayerNode, Maker, TensorNode};
use crate::nn::recorder;
use crate::numeric::{Grid, LayerShape, device_name};
use crate::{Error, Prunable, Result, analysis};

/// The times of a network's layers as functions of their widths, in nanoseconds: what a
/// [`Target::Latency`](crate::Target::Latency) counts. Made from a [`LatencyTable`], whose medians
/// it has.
///
/// [`LatencyTable`]: crate::LatencyTable
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct LayerLatencies {
    pub(crate) conditions: Conditions,
    /// By field path and tensor, `conv1.weight`: for each application of the layer, the grid that
    /// has its times, by the first two dimensions of the tensor.
    pub(crate) layers: BTreeMap<String, Vec<usize>>,
    pub(crate) grids: Vec<Grid>,
}

/// Under which conditions times hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// `cpu`, or `cuda:0`.
    pub(crate) device: String,
    /// Number of threads that libtorch computes on.
    pub(crate) threads: i32,
    /// Kind of numbers: `float`.
    pub(crate) kind: String,
}

impl LayerLatencies {
    /// Checks that these are the times of this network: of its layers, on its device.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming), with the first
    /// difference and the fix.
    pub(crate) fn check(&self, graph: &Graph) -> Result<()> {
        let refused = |reason| Err(Error::Selection(SelectionError::Slimming { reason }));
        if let Some((kind, device)) = graph.options() {
            let network = Conditions::new(kind, device, self.conditions.threads);
            if let Some(difference) = self.conditions.difference(&network) {
                return refused(format!("the latency table is {difference}"));
            }
        }
        let mut strangers: BTreeSet<_> = self.layers.keys().map(String::as_str).collect();
        for (place, tensor) in needed(graph) {
            let (path, size) = (graph.tensor_path(place), tensor.tensor.size());
            strangers.remove(path.as_str());
            if !self.layers.contains_key(&path) {
                return refused(format!(
                    "the latency table lacks `{path}`; measure this network into it, with `LatencyTable::extend`"
                ));
            }
            let widths = [0, 1].map(|dim| size.get(dim).copied().unwrap_or(1).unsigned_abs());
            if !self.has(&path, widths) {
                return refused(format!(
                    "the latency table has no times of `{path}` at the shape {size:?}; measure this network into it, with `LatencyTable::extend`"
                ));
            }
        }
        match strangers.first() {
            Some(stranger) => refused(format!(
                "the latency table is another network's, which has the tensor `{stranger}`; measure this network into it, with `LatencyTable::extend`"
            )),
            None => Ok(()),
        }
    }

    /// Whether there are times of the layer whose weight is at `path`, with these numbers of rows
    /// and columns.
    pub(crate) fn has(&self, path: &str, widths: [u64; 2]) -> bool {
        let entries = self.layers.get(path);
        entries.is_some_and(|entries| entries.iter().all(|&entry| self.grids[entry].has(widths)))
    }

    /// The time of all applications of the layer whose weight is at `path`, with these numbers of
    /// rows and columns, in nanoseconds.
    pub(crate) fn of(&self, path: &str, [rows, columns]: [u64; 2]) -> u64 {
        let entries = self.layers.get(path).map(Vec::as_slice).unwrap_or_default();
        let times = entries.iter().map(|&entry| self.grids[entry].at(rows, columns));
        times.fold(0, u64::saturating_add)
    }
}

impl Conditions {
    pub(crate) fn new(kind: Kind, device: Device, threads: i32) -> Self {
        let kind = format!("{kind:?}").to_lowercase();
        Self { device: device_name(device), threads, kind }
    }

    /// The first condition that differs from `wanted`, and the fix; `None` if all are the same.
    pub(crate) fn difference(&self, wanted: &Conditions) -> Option<String> {
        let Self { device, threads, kind } = self;
        if *device != wanted.device {
            let fix = "move the network there, or measure another table";
            return Some(format!(
                "of `{device}`, and the network is on `{}`; {fix}",
                wanted.device
            ));
        }
        if *kind != wanted.kind {
            let fix = "convert the network, or measure another table";
            return Some(format!("of `{kind}`, and the network is in `{}`; {fix}", wanted.kind));
        }
        (*threads != wanted.threads).then(|| {
            let s = if *threads == 1 { "" } else { "s" };
            format!(
                "of {threads} thread{s}, and libtorch computes on {}; call `tch::set_num_threads({threads})`, or measure another table",
                wanted.threads
            )
        })
    }
}

/// `float, cpu, 1 thread`
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, threads, kind } = self;
        let s = if *threads == 1 { "" } else { "s" };
        write!(f, "{kind}, {device}, {threads} thread{s}")
    }
}

/// [`LayerLatencies`] in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    device: String,
    threads: i32,
    kind: String,
    layers: BTreeMap<String, Vec<usize>>,
    grids: Vec<Grid>,
}

impl From<LayerLatencies> for Form {
    fn from(LayerLatencies { conditions, layers, grids }: LayerLatencies) -> Self {
        let Conditions { device, threads, kind } = conditions;
        Self { device, threads, kind, layers, grids }
    }
}

impl TryFrom<Form> for LayerLatencies {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let Form { device, threads, kind, layers, grids } = form;
        ensure_exist(&layers, grids.len())?;
        let grids = grids.iter().map(Grid::monotone).collect();
        Ok(Self { conditions: Conditions { device, threads, kind }, layers, grids })
    }
}

/// # Errors
/// A layer has no entry, or one that is not one of `count`.
pub(crate) fn ensure_exist(
    layers: &BTreeMap<String, Vec<usize>>,
    count: usize,
) -> Result<(), String> {
    let is_wrong =
        |entries: &[usize]| entries.is_empty() || entries.iter().any(|&entry| entry >= count);
    match layers.iter().find(|(_, entries)| is_wrong(entries)) {
        Some((path, entries)) => {
            Err(format!("`{path}` has the times {entries:?}, and there are {count}"))
        }
        None => Ok(()),
    }
}

/// One application of a layer whose time depends on its widths.
pub(crate) struct TimedLayer {
    /// Field path of the weight; of a batch norm, of the running mean.
    pub(crate) tensor: String,
    pub(crate) shape: LayerShape,
    /// The first two dimensions of the weight, and whether they are the same in any plan. A batch
    /// norm has one column.
    pub(crate) widths: [(u64, bool); 2],
}

/// What a forward pass applies.
pub(crate) struct TimedLayers {
    pub(crate) layers: Vec<TimedLayer>,
    /// Kind and device of the network.
    pub(crate) place: (Kind, Device),
    /// Number of values that the network's layers hold.
    pub(crate) values: usize,
}

/// The layers that `forward` applies.
///
/// # Errors
/// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for a layer that cannot be timed,
/// or that `forward` does not run; the errors of a trace.
pub(crate) fn timed<M: Prunable, T>(
    model: &M,
    forward: impl FnOnce(&M) -> T,
) -> Result<TimedLayers> {
    let graph = analysis::trace(model, Masking::BatchNorm)?;
    let applied = recorder::record_shapes(|| tch::no_grad(|| forward(model)));
    let (places, mut found, mut layers) = (Places::of(&graph), BTreeSet::new(), Vec::new());
    for applied in applied {
        let Some(place) = places.find(&applied.weight) else {
            let reason = format!(
                "`forward` runs a layer that is outside the data flow, with a weight of shape {:?}: one in a field marked `#[prune(skip)]`, or another model's; let `forward` run the data flow alone",
                applied.weight.size()
            );
            return Err(unmeasured(reason));
        };
        found.insert(place);
        let layer = &graph.layers[place.0];
        let widths = [0, 1].map(|dim| width(&graph, layer, &layer.tensors[place.1], dim));
        layers.push(TimedLayer { tensor: graph.tensor_path(place), shape: applied.shape, widths });
    }
    if let Some((place, tensor)) = needed(&graph).find(|(place, _)| !found.contains(place)) {
        return Err(unmeasured(why_not_timed(&graph.layers[place.0], tensor)));
    }
    let place = graph.options().ok_or_else(|| {
        unmeasured("the network has no tensor of floats, so there is nothing to time".to_owned())
    })?;
    let values = graph.tensors().map(Tensor::numel).sum();
    Ok(TimedLayers { layers, place, values })
}

/// The tensors whose layers are timed: the weights of convolutions and linear layers, and the
/// running means of batch norms. A shared tensor is listed where it occurs first.
pub(crate) fn needed(graph: &Graph) -> impl Iterator<Item = (Place, &TensorNode)> {
    tensors(graph).filter(|((layer, _), tensor)| {
        let layer = &graph.layers[*layer];
        let is_norm = layer.kind == LayerKind::BatchNorm && tensor.name == "running_mean";
        tensor.tied.is_none() && (is_norm || must_report(layer, tensor))
    })
}

/// A dimension of a weight, and whether no plan changes it: it follows no channels, or those of the
/// model's input or output.
fn width(graph: &Graph, layer: &LayerNode, tensor: &TensorNode, dim: usize) -> (u64, bool) {
    let size = tensor.tensor.size().get(dim).copied().unwrap_or(1).unsigned_abs();
    let is_held = |axis: usize| {
        layer.axes[axis].ids.iter().all(|&id| {
            let held = graph.held[graph.channel_group(id)].as_deref();
            matches!(held, Some(KeepReason::Input | KeepReason::Output))
        })
    };
    (size, tensor.axes.get(dim).copied().flatten().is_none_or(is_held))
}

fn why_not_timed(layer: &LayerNode, tensor: &TensorNode) -> String {
    let (path, kind) = (&layer.path, &layer.kind);
    match (layer.maker, kind) {
        (_, LayerKind::BatchNorm) => format!(
            "`{path}` reports no input: it is tch's own, or `forward` does not run it; build it with `slim_runtime::nn::batch_norm2d` (same signature), and run the whole network"
        ),
        (_, LayerKind::Other(_)) | (Maker::User, _) => format!(
            "`{path}` ({kind}) cannot be timed: convolutions, transposed convolutions, linear layers and batch norms of `slim_runtime::nn` can; take a budget of parameters or MACs"
        ),
        (Maker::Tch, _) => format!(
            "`{path}` is tch's own, whose input is not known; build it with `slim_runtime::nn::{}` (same signature)",
            layer.drop_in(tensor)
        ),
        (Maker::Slim, _) => format!(
            "`{path}` was not run by `forward`, or is part of a recurrent or attention layer, which cannot be timed; run the whole network, or take a budget of parameters or MACs"
        ),
    }
}

pub(crate) fn unmeasured(reason: String) -> Error {
    Error::Check(CheckError::Benchmark { reason })
}
