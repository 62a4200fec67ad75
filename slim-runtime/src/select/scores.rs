//! The score of every channel, read from the device in one transfer.

use tch::{Kind, Tensor};

use crate::analysis::Graph;
use crate::error::SelectionError;
use crate::graph::{KeepReason, LayerNode, Ranked};
use crate::slimming::criterion::{Candidate, LayerScores, Network, Normalisation};
use crate::slimming::{Coupling, Slimming};
use crate::{Error, Result};

/// The scores of all channels.
pub(super) struct Scores {
    /// Per channel group: its score, combined from the scores of its channels; `None` if no
    /// layer scores it.
    pub(super) by_channel_group: Vec<Option<f64>>,
    /// The scored layers, in the order of the data flow.
    pub(super) layers: Vec<ScoredLayer>,
}

/// A layer whose channels the criterion scores.
pub(super) struct ScoredLayer {
    pub(super) layer: usize,
    pub(super) axis: usize,
    /// By position: the channel group of the channel.
    pub(super) channel_groups: Vec<usize>,
    /// By position: the normalised score of the channel alone.
    pub(super) scores: Vec<f64>,
}

impl Scores {
    /// # Errors
    /// [`SelectionError::NonFinite`](crate::error::SelectionError::NonFinite),
    /// [`SelectionError::Scores`](crate::error::SelectionError::Scores), [`Error::Torch`], and the
    /// errors of the criterion.
    pub(super) fn read(graph: &Graph, slimming: &Slimming) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let network = Network::new(graph);
        let mut scored = Vec::new();
        for (index, layer) in graph.layers.iter().enumerate() {
            let Some(ranked) = layer.ranked.as_ref().filter(|ranked| ranked.first) else {
                continue;
            };
            // All channels of a layer that makes the model's output must stay.
            let is_output = |&id: &u32| {
                matches!(graph.held[graph.channel_group(id)].as_deref(), Some(KeepReason::Output))
            };
            if !ranked.is_scale && layer.axes[ranked.axis].ids.iter().all(is_output) {
                continue;
            }
            let candidate = Candidate::new(layer, ranked, &network);
            let Some(scores) = slimming.criterion.scores(&candidate)? else { continue };
            if scores.size() != [candidate.channels() as i64] {
                let (path, channels, found) =
                    (layer.path.clone(), candidate.channels(), scores.size());
                return Err(Error::Selection(SelectionError::Scores {
                    criterion: slimming.criterion.name(),
                    path,
                    channels,
                    found,
                }));
            }
            scored.push((index, ranked, scores));
        }
        let mut values = fetch(scored.iter().map(|(.., scores)| scores))
            .map_err(Error::torch("reading the scores"))?
            .into_iter();
        let mut layers = Vec::new();
        for (index, ranked, _) in scored {
            let layer = &graph.layers[index];
            let channel_groups: Vec<_> =
                layer.axes[ranked.axis].ids.iter().map(|&id| graph.channel_group(id)).collect();
            let scores = values
                .by_ref()
                .take(channel_groups.len())
                .enumerate()
                .map(|(channel, value)| finite(layer, ranked, channel, value));
            let scores = normalised(scores.collect::<Result<_>>()?, slimming.normalisation);
            layers.push(ScoredLayer { layer: index, axis: ranked.axis, channel_groups, scores });
        }
        Ok(Scores {
            by_channel_group: coupled(graph.channel_group.len(), &layers, slimming.coupling),
            layers,
        })
    }

    /// The channel group of every score, in the order of the data flow.
    pub(super) fn entries(&self) -> impl Iterator<Item = usize> {
        self.layers.iter().flat_map(|layer| layer.channel_groups.iter().copied())
    }
}

/// The criterion's score of each channel by itself.
///
/// # Errors
/// Those of [`Scores::read`].
pub(crate) fn of_layers(graph: &Graph, slimming: &Slimming) -> Result<Vec<LayerScores>> {
    slimming.check()?;
    let layer = |scored: ScoredLayer| {
        let layer = &graph.layers[scored.layer];
        LayerScores {
            path: layer.path.clone(),
            axis: layer.axes[scored.axis].name.to_string(),
            scores: scored.scores,
        }
    };
    Ok(Scores::read(graph, slimming)?.layers.into_iter().map(layer).collect())
}

/// All scores in one list, without loss: every float kind fits into a double.
fn fetch<'a>(scores: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>, tch::TchError> {
    let scores: Vec<_> = scores.collect();
    let Some(first) = scores.first() else { return Ok(Vec::new()) };
    // One transfer if the whole model has one kind and one device, as is usual. Otherwise all
    // scores move to the device of the first.
    let options = (first.kind(), first.device());
    let gathered = match scores.iter().all(|scores| (scores.kind(), scores.device()) == options) {
        true => Tensor::f_cat(&scores, 0)?,
        false => {
            let moved =
                scores.iter().map(|scores| scores.f_to_kind(Kind::Double)?.f_to_device(options.1));
            Tensor::f_cat(&moved.collect::<Result<Vec<_>, _>>()?, 0)?
        }
    };
    Vec::try_from(gathered.f_to_kind(Kind::Double)?)
}

fn finite(layer: &LayerNode, ranked: &Ranked, channel: usize, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    let tensor = layer.tensors[ranked.tensor].name.to_owned();
    Err(Error::Selection(SelectionError::NonFinite {
        path: layer.path.clone(),
        tensor,
        channel,
        value,
    }))
}

/// Divides the scores of a layer by their norm. Scores that are all zero stay as they are.
fn normalised(scores: Vec<f64>, normalisation: Normalisation) -> Vec<f64> {
    let by = match normalisation {
        Normalisation::None => return scores,
        Normalisation::Max => scores.iter().copied().fold(0., f64::max),
        Normalisation::Mean => scores.iter().sum::<f64>() / scores.len().max(1) as f64,
        Normalisation::L2 => scores.iter().map(|score| score * score).sum::<f64>().sqrt(),
    };
    if by > 0. { scores.into_iter().map(|score| score / by).collect() } else { scores }
}

fn coupled(channel_groups: usize, layers: &[ScoredLayer], coupling: Coupling) -> Vec<Option<f64>> {
    let mut members: Vec<usize> = vec![0; channel_groups];
    let mut by_channel_group: Vec<Option<f64>> = vec![None; channel_groups];
    for layer in layers {
        for (&channel_group, &score) in layer.channel_groups.iter().zip(&layer.scores) {
            members[channel_group] += 1;
            let join = |so_far: f64| {
                if coupling == Coupling::Max { so_far.max(score) } else { so_far + score }
            };
            by_channel_group[channel_group] =
                Some(by_channel_group[channel_group].map_or(score, join));
        }
    }
    if coupling == Coupling::Mean {
        by_channel_group
            .iter_mut()
            .zip(members)
            .for_each(|(sum, members)| *sum = sum.map(|sum| sum / members as f64));
    }
    by_channel_group
}
