//! Computes how often each tensor of the graph is used, from what layers reported or from known
//! shapes.

use std::collections::{BTreeMap, HashMap};

use super::{Cost, LayerCost, TensorCost};
use crate::analysis::Graph;
use crate::analysis::places::{Place, Places, must_report, tensors};
use crate::error::{ArgumentError, WiringError};
use crate::graph::{LayerNode, Maker, TensorNode};
use crate::nn::recorder::Record;
use crate::numeric::Uses;
use crate::{Error, Result};

/// Checks that every layer ran on a batch of one sample.
///
/// # Errors
/// [`ArgumentError::Batch`](crate::error::ArgumentError::Batch) when a layer ran on a batch of
/// another size than one.
pub(super) fn check_batch(graph: &Graph, records: &[Record]) -> Result<()> {
    let found =
        records.iter().find_map(|record| Some((record, record.batch.filter(|&batch| batch != 1)?)));
    let Some((record, batch)) = found else { return Ok(()) };
    let place = Places::of(graph).find(&record.weight);
    Err(Error::Argument(ArgumentError::Batch {
        path: place
            .map_or_else(|| "model".to_owned(), |(layer, _)| graph.layers[layer].path.clone()),
        batch,
    }))
}

/// The cost for one of `samples` samples, computed from the reports of a forward pass.
///
/// # Errors
/// [`ArgumentError::Samples`](crate::error::ArgumentError::Samples) when a number of uses is no
/// multiple of `samples`, [`WiringError::Layer`](crate::error::WiringError::Layer) when a layer
/// reports an impossible number of uses.
pub(super) fn count(graph: &Graph, records: &[Record], samples: i64) -> Result<Cost> {
    let places = Places::of(graph);
    let mut reports: BTreeMap<Place, Reports> = BTreeMap::new();
    let mut outside = Vec::new();
    for record in records {
        match places.find(&record.weight) {
            Some(place) => reports.entry(place).or_default().add(graph, place, record)?,
            // A weight without elements costs no MACs, and has no memory to identify it by.
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

/// The cost computed from the shapes in the graph, without running the model.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) when a number of uses overflows an
/// `i64`.
pub(super) fn read(graph: &Graph) -> Result<Cost> {
    let mut reports: BTreeMap<Place, Reports> = BTreeMap::new();
    for (place, tensor) in tensors(graph) {
        let layer = &graph.layers[place.0];
        if let (true, Some(uses)) = (must_report(layer, tensor), layer.uses) {
            let weight = tensor.tensor.shallow_clone();
            let parts = layer.weight_parts;
            let record = Record { weight, times: uses, parts, batch: None, given: Vec::new() };
            reports.entry(tensor.tied.unwrap_or(place)).or_default().add(graph, place, &record)?;
        }
    }
    let counter = Counter { graph, reports, users: users(graph), is_read: true };
    let layers = (0..graph.layers.len()).map(|layer| counter.layer(layer)).collect();
    Ok(Cost { layers, outside: None })
}

/// The uses that were reported for one tensor.
struct Reports {
    /// Number of reports.
    calls: usize,
    /// Uses of one part of the weight, summed over all reports.
    uses: i64,
    /// The number of equal parts of the weight.
    parts: i64,
}

impl Default for Reports {
    fn default() -> Self {
        Self { calls: 0, uses: 0, parts: 1 }
    }
}

impl Reports {
    fn add(&mut self, graph: &Graph, place: Place, record: &Record) -> Result<()> {
        (self.uses, self.parts) = self.sum(record).ok_or_else(|| {
            let reason = format!(
                "it reports {} uses of `{}`; report at least 0, and no more than an `i64` holds",
                record.times, graph.layers[place.0].tensors[place.1].name
            );
            Error::Wiring(WiringError::Layer { path: graph.layers[place.0].path.clone(), reason })
        })?;
        self.calls += 1;
        Ok(())
    }

    /// The uses with those of another report, and the number of parts that both are counted in.
    fn sum(&self, record: &Record) -> Option<(i64, i64)> {
        let (times, parts) = (Some(record.times).filter(|&times| times >= 0)?, record.parts);
        if parts == self.parts {
            return Some((self.uses.checked_add(times)?, parts));
        }
        let (own, added) = (self.uses.checked_mul(parts)?, times.checked_mul(self.parts)?);
        Some((own.checked_add(added)?, self.parts.checked_mul(parts)?))
    }

    fn total(&self) -> Uses {
        Uses::new(self.uses.unsigned_abs(), self.parts.unsigned_abs())
    }

    /// Divides the uses by the number of samples.
    fn divide(&mut self, graph: &Graph, place: Place, samples: i64) -> Result<()> {
        if self.uses % samples != 0 {
            let (tensor, uses) = (graph.tensor_path(place), self.uses);
            let reason = format!(
                "`{tensor}` is used {uses} times, which is not a multiple of {samples}; pass the number of samples that `forward` runs"
            );
            return Err(Error::Argument(ArgumentError::Samples { samples, reason }));
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

struct Counter<'g> {
    graph: &'g Graph,
    /// Whether the uses are read from the graph. The graph also knows the uses of tch's own layers.
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
                self.reports.get(&(index, i)).map_or(Uses::from(0), Reports::total)
            } else {
                Uses::from(0)
            },
            tied: tensor.tied.map(|owner| self.graph.tensor_path(owner)),
        });
        let uncounted = (0..node.tensors.len()).find_map(|i| self.uncounted((index, i)));
        LayerCost::new(node.path.clone(), node.kind.clone(), tensors.collect(), uncounted)
    }

    /// The reason why the uses of a tensor are not known; `None` if they are known.
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
            // Another layer reported the shared tensor: tch's layers report nothing.
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
    format!(
        "`{}` is tch's own, which cannot be counted; build it with `slim_runtime::nn::{}` (same signature)",
        layer.path,
        layer.drop_in(tensor)
    )
}
