//! From what layers reported to what each tensor of the graph is used for.

use std::collections::{BTreeMap, HashMap};

use super::{Cost, LayerCost, TensorCost};
use crate::analysis::Graph;
use crate::graph::{LayerKind, LayerNode, Layout, Maker, TensorNode, memory};
use crate::nn::recorder::Record;
use crate::{Error, Result};

/// A tensor of the graph: positions of the layer and of the tensor in it.
type Place = (usize, usize);

/// # Errors
/// [`Error::Batch`] when a layer was given a batch that is not of one.
pub(super) fn check_batch(graph: &Graph, records: &[Record]) -> Result<()> {
    let found =
        records.iter().find_map(|record| Some((record, record.batch.filter(|&batch| batch != 1)?)));
    let Some((record, batch)) = found else { return Ok(()) };
    let place = Places::of(graph).find(record);
    Err(Error::Batch {
        path: place
            .map_or_else(|| "model".to_owned(), |(layer, _)| graph.layers[layer].path.clone()),
        batch,
    })
}

/// # Errors
/// [`Error::Samples`] when a number of uses is no multiple of `samples`, [`Error::Layer`] when a
/// layer reports what cannot be.
pub(super) fn count(graph: &Graph, records: &[Record], samples: i64) -> Result<Cost> {
    let places = Places::of(graph);
    let mut reports: BTreeMap<Place, Reports> = BTreeMap::new();
    let mut outside = Vec::new();
    for record in records {
        match places.find(record) {
            Some(place) => reports.entry(place).or_default().add(graph, place, record)?,
            // Without values it multiplies nothing, and has no memory to know it by.
            None if record.weight.numel() == 0 => {}
            None => outside.push(&record.weight),
        }
    }
    for (&place, reports) in &mut reports {
        reports.divide(graph, place, samples)?;
    }
    let counter = Counter { graph, reports, users: users(graph), is_read: false };
    let layers = (0..graph.layers.len()).map(|layer| counter.layer(layer)).collect();
    let outside = outside.first().map(|first| {
        let (count, shape) = (outside.len(), first.size());
        format!(
            "{count} uses of weights are outside the data flow, the first of shape {shape:?}: layers in fields marked `#[prune(skip)]`, or another model's; let `forward` run the data flow alone"
        )
    });
    Ok(Cost { layers, outside })
}

/// The same, as the graph says it: nothing is run.
///
/// # Errors
/// [`Error::Layer`] where that is more than can be counted.
pub(super) fn read(graph: &Graph) -> Result<Cost> {
    let mut reports: BTreeMap<Place, Reports> = BTreeMap::new();
    for (place, tensor) in tensors(graph) {
        let layer = &graph.layers[place.0];
        if let (true, Some(uses)) = (must_report(layer, tensor), layer.uses) {
            let weight = tensor.tensor.shallow_clone();
            let record = Record { weight, times: uses, batch: None, given: Vec::new() };
            reports.entry(tensor.tied.unwrap_or(place)).or_default().add(graph, place, &record)?;
        }
    }
    let counter = Counter { graph, reports, users: users(graph), is_read: true };
    let layers = (0..graph.layers.len()).map(|layer| counter.layer(layer)).collect();
    Ok(Cost { layers, outside: None })
}

/// Where in the graph the tensor with this memory was met first.
struct Places(HashMap<usize, (Layout, Place)>);

impl Places {
    fn of(graph: &Graph) -> Self {
        let tensors = tensors(graph).filter(|(_, tensor)| tensor.tied.is_none());
        Places(
            tensors
                .filter_map(|(place, tensor)| {
                    memory(&tensor.tensor).map(|(address, layout)| (address, (layout, place)))
                })
                .collect(),
        )
    }

    fn find(&self, record: &Record) -> Option<Place> {
        let (address, layout) = memory(&record.weight)?;
        self.0.get(&address).filter(|(known, _)| *known == layout).map(|&(_, place)| place)
    }
}

fn tensors(graph: &Graph) -> impl Iterator<Item = (Place, &TensorNode)> {
    let layers = graph.layers.iter().enumerate();
    layers.flat_map(|(i, layer)| {
        layer.tensors.iter().enumerate().map(move |(j, tensor)| ((i, j), tensor))
    })
}

/// What was reported of one tensor.
#[derive(Default)]
struct Reports {
    /// How many.
    calls: usize,
    /// How often each of its values was multiplied in all of them.
    uses: i64,
}

impl Reports {
    fn add(&mut self, graph: &Graph, place: Place, record: &Record) -> Result<()> {
        let sum = self.uses.checked_add(record.times).filter(|_| record.times >= 0);
        self.uses = sum.ok_or_else(|| {
            let reason = format!(
                "it reports {} uses of `{}`, which cannot be",
                record.times, graph.layers[place.0].tensors[place.1].name
            );
            Error::Layer { path: graph.layers[place.0].path.clone(), reason }
        })?;
        self.calls += 1;
        Ok(())
    }

    /// From all samples to one.
    fn divide(&mut self, graph: &Graph, place: Place, samples: i64) -> Result<()> {
        if self.uses % samples != 0 {
            let (tensor, uses) = (graph.tensor_path(place), self.uses);
            let reason = format!(
                "`{tensor}` is used {uses} times, which is no multiple of them; say how many samples `forward` runs"
            );
            return Err(Error::Samples { samples, reason });
        }
        self.uses /= samples;
        Ok(())
    }
}

/// By tensor: the paths of the layers that must report its uses, each once.
fn users(graph: &Graph) -> HashMap<Place, Vec<&str>> {
    let mut users: HashMap<Place, Vec<&str>> = HashMap::new();
    for (place, tensor) in
        tensors(graph).filter(|&((layer, _), tensor)| must_report(&graph.layers[layer], tensor))
    {
        let users = users.entry(tensor.tied.unwrap_or(place)).or_default();
        let path = graph.layers[place.0].path.as_str();
        if !users.contains(&path) {
            users.push(path);
        }
    }
    users
}

/// Whether a tensor may cost MACs: all but values per channel, single values, and those of layers
/// that count none by convention.
fn must_report(layer: &LayerNode, tensor: &TensorNode) -> bool {
    let has_weights = matches!(
        layer.kind,
        LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear | LayerKind::Other(_)
    );
    has_weights && !matches!(tensor.axes[..], [] | [Some(_)]) && tensor.tensor.numel() > 0
}

struct Counter<'g> {
    graph: &'g Graph,
    /// Whether the uses are read from the graph, which knows those of tch's layers too.
    is_read: bool,
    reports: BTreeMap<Place, Reports>,
    users: HashMap<Place, Vec<&'g str>>,
}

impl Counter<'_> {
    fn layer(&self, index: usize) -> LayerCost {
        let node = &self.graph.layers[index];
        let tensors = node.tensors.iter().enumerate().map(|(i, tensor)| TensorCost {
            name: tensor.name.to_owned(),
            shape: tensor.tensor.size(),
            role: tensor.role,
            uses: if tensor.tied.is_none() {
                self.reports.get(&(index, i)).map_or(0, |reports| reports.uses)
            } else {
                0
            },
            tied: tensor.tied.map(|owner| self.graph.tensor_path(owner)),
        });
        let uncounted = (0..node.tensors.len()).find_map(|i| self.uncounted((index, i)));
        LayerCost::new(node.path.clone(), node.kind.clone(), tensors.collect(), uncounted)
    }

    /// Why the uses of a tensor are not known.
    fn uncounted(&self, place: Place) -> Option<String> {
        let (layer, tensor) =
            (&self.graph.layers[place.0], &self.graph.layers[place.0].tensors[place.1]);
        if !must_report(layer, tensor) {
            return None;
        }
        let owner = tensor.tied.unwrap_or(place);
        let users = self.users.get(&owner).map(Vec::as_slice).unwrap_or_default();
        let (path, name) = (&layer.path, tensor.name);
        match self.reports.get(&owner) {
            // Somebody reported it, and it was not this one.
            Some(_) if layer.maker == Maker::Tch && users.len() > 1 && !self.is_read => {
                Some(tchs_own(layer, tensor))
            }
            Some(reports) if reports.calls < users.len() => {
                let (shared, layers, calls) = (users.join("`, `"), users.len(), reports.calls);
                let uses = if calls == 1 { "1 use".to_owned() } else { format!("{calls} uses") };
                Some(format!(
                    "`{path}.{name}` is shared by {layers} layers (`{shared}`), and `forward` reports {uses} of it; run each"
                ))
            }
            Some(_) => None,
            None => Some(match layer.maker {
                Maker::Tch => tchs_own(layer, tensor),
                Maker::Slim => {
                    format!("`{path}` was not run by `forward`, which must run the whole network")
                }
                Maker::User => format!(
                    "`{path}` does not say how often it uses `{name}`; call `slim_runtime::nn::record_macs` in its forward pass, and run it"
                ),
            }),
        }
    }
}

fn tchs_own(layer: &LayerNode, tensor: &TensorNode) -> String {
    let rank = tensor.axes.len().saturating_sub(2);
    let drop_in = match layer.kind {
        LayerKind::ConvTranspose => format!("conv_transpose{rank}d"),
        LayerKind::Linear => "linear".to_owned(),
        _ => format!("conv{rank}d"),
    };
    format!(
        "`{}` is tch's own, which cannot be counted; build it with `slim_runtime::nn::{drop_in}` (same signature)",
        layer.path
    )
}
