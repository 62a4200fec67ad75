//! Absorption: computes the shifts of biases and running means.

use std::collections::HashMap;
use std::rc::Rc;

use tch::{Device, Kind, TchError, Tensor};

use crate::analysis::{ConstValue, Graph, Neighbours, constants, neighbours};
use crate::graph::{BiasExactness, LayerKind, LayerNode, MixNode, ReadNode};
use crate::plan::{Absorbed, Absorption, LayerPlan, Plan};
use crate::slimming::Absorb;
use crate::{Error, Result};

/// Layer and tensor, by index.
type TensorId = (usize, usize);

/// The shift of each tensor that absorbs, before positions of it are selected.
#[derive(Default)]
pub(crate) struct Shifts {
    by_tensor: HashMap<TensorId, Tensor>,
    pub(crate) absorbed: Vec<Absorbed>,
}

/// Results of the analysis passes that absorption uses.
struct Passes {
    /// Per value, per channel.
    constants: Vec<Rc<[ConstValue]>>,
    neighbours: Neighbours,
}

/// What a consumer that loses inputs computes from the constants that these send.
struct Reader {
    layer: usize,
    channels: usize,
    found: Result<Found, String>,
}

struct Found {
    /// The tensor that absorbs the shift, in the layer that binds it.
    into: TensorId,
    shift: Tensor,
    exact: bool,
}

/// Computes the shifts without changing the model. There are none if the plan does not ask for
/// absorption, or if it is composed.
///
/// # Errors
/// [`SelectionError::NonFinite`](crate::error::SelectionError::NonFinite), [`Error::Torch`].
pub(crate) fn shifts(graph: &Graph, plan: &Plan) -> Result<Shifts> {
    // What each pass of a composed plan absorbed was already in the weights that the next pass
    // found.
    let Some(absorb) = plan.slimming.absorb.filter(|_| plan.passes.is_empty()) else {
        return Ok(Shifts::default());
    };
    let _no_grad = tch::no_grad_guard();
    let passes = Passes { constants: constants(graph)?, neighbours: neighbours(graph) };
    let mut readers = Vec::new();
    for (index, (node, planned)) in graph.layers.iter().zip(&plan.layers).enumerate() {
        for read in &node.reads {
            readers.extend(reader(graph, &passes, absorb, (index, node, planned), read)?);
        }
    }
    refuse_contradictions(graph, &mut readers);
    let mut shifts = Shifts::default();
    for Reader { layer, channels, found } in
        readers.into_iter().filter(|reader| reader.channels > 0)
    {
        let absorption = match found {
            Ok(Found { into, shift, exact }) => {
                let tensor = graph.tensor_path(into);
                shifts.by_tensor.insert(owner(graph, into), shift);
                Absorption::Into { tensor, exact }
            }
            Err(reason) => Absorption::Dropped { reason },
        };
        shifts.absorbed.push(Absorbed {
            path: graph.layers[layer].path.clone(),
            channels,
            absorption,
        });
    }
    Ok(shifts)
}

impl Shifts {
    pub(crate) fn of(&self, tensor: TensorId) -> Option<&Tensor> {
        self.by_tensor.get(&tensor)
    }
}

/// The tensor with the shift added, in double precision, so that the sum is rounded only once.
pub(crate) fn shifted(tensor: &Tensor, shift: &Tensor) -> Result<Tensor, TchError> {
    let sum = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_add(shift)?;
    sum.f_to_kind(tensor.kind())?.f_to_device(tensor.device())
}

/// `None` if the layer reads no removed channel.
fn reader(
    graph: &Graph,
    passes: &Passes,
    absorb: Absorb,
    (index, node, planned): (usize, &LayerNode, &LayerPlan),
    read: &ReadNode,
) -> Result<Option<Reader>> {
    let axis = &planned.axes[read.axis];
    if axis.keep.len() == axis.width {
        return Ok(None);
    }
    let mut removed = vec![true; axis.width];
    axis.keep.iter().for_each(|position| removed[position] = false);
    // A grouped layer has the axis of one group, but each group reads channels of its own.
    let sent = passes.constants[read.value]
        .iter()
        .enumerate()
        .map(|(position, sent)| removed[position % axis.width].then_some(sent));
    let values = match absorb.values(sent).map_err(Error::torch(&node.path))? {
        Ok(values) => values,
        Err((channels, reason)) => {
            return Ok(Some(Reader { layer: index, channels, found: Err(reason) }));
        }
    };
    // Where `forward` pads, the border of the image carries another value.
    let is_interior =
        passes.constants[read.value].iter().enumerate().any(|(position, constant)| {
            removed[position % axis.width] && matches!(constant, ConstValue::Interior(_))
        });
    let channels = values.iter().filter(|&&value| value != 0.0).count();
    let found = match destination(graph, &passes.neighbours, index) {
        Ok(_) if is_interior && node.kind == LayerKind::Linear => {
            Err("they are padded, so they are not one number for all of its inputs".to_owned())
        }
        Ok((mix, into)) => {
            let shift =
                what_it_makes(node, mix, read, &values).map_err(Error::torch(&node.path))?;
            // A batch norm subtracts its running mean.
            let shift = if into.0 == index {
                shift
            } else {
                shift.f_neg().map_err(Error::torch(&node.path))?
            };
            let exact = mix.reach == BiasExactness::Everywhere && !is_interior;
            Ok(Found { into, shift, exact })
        }
        Err(reason) => Err(reason),
    };
    Ok(Some(Reader { layer: index, channels, found }))
}

impl Absorb {
    /// The constant that each removed position carries, and zero for positions that stay. If some
    /// constants are unknown: how many, and the reason for the first of them.
    #[allow(clippy::type_complexity)]
    fn values<'a>(
        self,
        sent: impl Iterator<Item = Option<&'a ConstValue>>,
    ) -> Result<Result<Vec<f64>, (usize, String)>, TchError> {
        let sent: Vec<_> = sent.collect();
        let unsaid: Vec<f64> = sent
            .iter()
            .map(
                |sent| if let Some(ConstValue::Unsaid { value, .. }) = sent { *value } else { 0.0 },
            )
            .collect();
        let activated = self.after.map(|activation| activation.apply(&unsaid)).transpose()?;
        let mut reasons = Vec::new();
        let mut value = |(position, sent): (usize, &Option<&ConstValue>)| match (sent, &activated) {
            (None, _) => 0.0,
            (Some(ConstValue::Known(value) | ConstValue::Interior(value)), _) => *value,
            (Some(ConstValue::Unsaid { joined: false, .. }), Some(activated)) => {
                activated[position]
            }
            (Some(ConstValue::Unsaid { joined: false, .. }), None) => {
                reasons.push("the activation between them and their batch norm is not declared; write `#[prune(act = relu)]` on its field, or use `absorb_after`".to_owned());
                0.0
            }
            (Some(ConstValue::Unsaid { joined: true, .. }), _) => {
                reasons.push("they are joined with others, and nothing says which activations are in front of and behind that".to_owned());
                0.0
            }
            (Some(ConstValue::Unknown(why)), _) => {
                reasons.push(why.to_string());
                0.0
            }
        };
        let values = sent.iter().enumerate().map(&mut value).collect();
        let unknown = reasons.len();
        Ok(match reasons.into_iter().next() {
            None => Ok(values),
            Some(reason) => Err((unknown, reason)),
        })
    }
}

/// How a layer mixes what it reads, and the tensor that absorbs its shift.
fn destination<'g>(
    graph: &'g Graph,
    neighbours: &Neighbours,
    index: usize,
) -> Result<(&'g MixNode, TensorId), String> {
    let node = &graph.layers[index];
    let mix = match (&node.mix, node.reads.len()) {
        (Some(mix), 1) => mix,
        _ => {
            return Err(format!(
                "how a layer of the kind `{}` changes a constant is not known",
                node.kind
            ));
        }
    };
    if mix.reach == BiasExactness::Nowhere {
        return Err("it is a transposed convolution with a stride, which turns a constant into a pattern that no bias can hold".to_owned());
    }
    let norm = neighbours.norm[index];
    let into = tensor(node, "bias").map(|bias| (index, bias));
    let into = into.or_else(|| {
        norm.and_then(|norm| Some((norm, tensor(&graph.layers[norm], "running_mean")?)))
    });
    into.map(|into| (mix, into)).ok_or_else(|| {
        "it has no bias, and no batch norm is directly and alone behind it".to_owned()
    })
}

/// The amount that `values` add to each output of the layer: its kernels, summed over their
/// positions, times `values`, in double precision.
///
/// # Errors
/// Those of libtorch.
pub(crate) fn what_it_makes(
    node: &LayerNode,
    mix: &MixNode,
    read: &ReadNode,
    values: &[f64],
) -> Result<Tensor, TchError> {
    let weight = &node.tensors[tensor(node, "weight").unwrap_or_default()];
    let values = Tensor::f_from_slice(values)?.f_view([mix.groups as i64, -1, 1])?;
    let sums = weight.tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let size = sums.size();
    let sums =
        sums.f_reshape([size[0], size[1], -1])?.f_sum_dim_intlist(-1, false, Kind::Double)?;
    let inputs = values.size()[1];
    let by_group = match weight.axes.first() {
        // Transposed: [in, out / groups].
        Some(Some(axis)) if *axis == read.axis => {
            sums.f_view([mix.groups as i64, inputs, -1])?.f_transpose(1, 2)?
        }
        _ => sums.f_view([mix.groups as i64, -1, inputs])?,
    };
    by_group.f_matmul(&values)?.f_reshape(-1)
}

fn tensor(node: &LayerNode, name: &str) -> Option<usize> {
    node.tensors.iter().position(|tensor| tensor.name == name)
}

/// The place where a tensor was bound first.
fn owner(graph: &Graph, (layer, tensor): TensorId) -> TensorId {
    graph.layers[layer].tensors[tensor].tied.unwrap_or((layer, tensor))
}

/// Refuses a tensor that is used in several places, unless all places need the same shift.
fn refuse_contradictions(graph: &Graph, readers: &mut [Reader]) {
    let mut places: HashMap<TensorId, usize> = HashMap::new();
    for (index, node) in graph.layers.iter().enumerate() {
        (0..node.tensors.len())
            .for_each(|tensor| *places.entry(owner(graph, (index, tensor))).or_default() += 1);
    }
    let mut found: HashMap<TensorId, Vec<&mut Reader>> = HashMap::new();
    for reader in readers {
        if let Ok(Found { into, .. }) = &reader.found {
            found.entry(owner(graph, *into)).or_default().push(reader);
        }
    }
    for (into, readers) in found {
        let agree = {
            let shifts: Vec<_> = readers
                .iter()
                .filter_map(|reader| Some(&reader.found.as_ref().ok()?.shift))
                .collect();
            shifts.len() == places[&into] && shifts.windows(2).all(|pair| same(pair[0], pair[1]))
        };
        if !agree {
            let path = graph.tensor_path(into);
            for reader in readers {
                reader.found =
                    Err(format!("`{path}` is used elsewhere too, where another value is needed"));
            }
        }
    }
}

/// Whether two shifts agree up to rounding.
fn same(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.f_allclose(b, 1e-9, 1e-12, false).unwrap_or(false)
}
