//! |γ| of every channel, read from the device in one go.

use tch::{Kind, Tensor};

use crate::plan::Coupling;
use crate::tracer::{Graph, LayerNode};
use crate::{Error, Result};

/// How important the channels are.
pub(super) struct Scores {
    /// By class: its score, made of the |γ| of its channels; `None` where no batch norm scores it.
    pub(super) by_class: Vec<Option<f64>>,
    /// The class of every γ entry, in the order of the data flow.
    pub(super) entries: Vec<usize>,
}

impl Scores {
    /// # Errors
    /// [`Error::NonFinite`], [`Error::Torch`].
    pub(super) fn read(graph: &Graph, coupling: Coupling) -> Result<Self> {
        let mut members: Vec<usize> = vec![0; graph.class.len()];
        let mut scores = Scores { by_class: vec![None; graph.class.len()], entries: Vec::new() };
        let scales = graph.scales().map(|(layer, scale)| &layer.tensors[scale.tensor].tensor);
        let mut gammas = fetch(scales).map_err(Error::torch("reading the scales"))?.into_iter();
        for (layer, scale) in graph.scales() {
            for (channel, (&id, gamma)) in layer.axes[scale.axis].ids.iter().zip(&mut gammas).enumerate() {
                let score = finite(layer, scale.tensor, channel, gamma)?.abs();
                let class = graph.class(id);
                members[class] += 1;
                let so_far = &mut scores.by_class[class];
                *so_far = Some(so_far.map_or(score, |so_far| if coupling == Coupling::Max { so_far.max(score) } else { so_far + score }));
                scores.entries.push(class);
            }
        }
        if coupling == Coupling::Mean {
            let sums = scores.by_class.iter_mut().zip(members);
            sums.for_each(|(sum, members)| *sum = sum.map(|sum| sum / members as f64));
        }
        Ok(scores)
    }
}

/// All scales one after the other, exactly: every float kind fits into a double.
fn fetch<'a>(gammas: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>, tch::TchError> {
    let _no_grad = tch::no_grad_guard();
    let gammas = gammas.map(|gamma| gamma.f_to_kind(Kind::Double)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = gammas.first() else { return Ok(Vec::new()) };
    // One transfer for a model on one device, the usual case; the others come to it.
    let device = first.device();
    let gathered = gammas.iter().map(|gamma| gamma.f_to_device(device)).collect::<Result<Vec<_>, _>>()?;
    Vec::try_from(&Tensor::f_cat(&gathered, 0)?)
}

fn finite(layer: &LayerNode, tensor: usize, channel: usize, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    let tensor = layer.tensors[tensor].name.to_owned();
    Err(Error::NonFinite { path: layer.path.clone(), tensor, channel, value })
}
