//! Snapshots of the tensors of a model's layers, as handles that can be exchanged.
//!
//! Nothing here changes a tensor. A deployed network holds tensors of its own, so restoring it, or
//! trying another form of it, only exchanges handles.

use std::collections::HashMap;

use tch::{TchError, Tensor};

use crate::graph::{LayerMut, NormMut, WeightsMut, visit_layers};
use crate::numeric::packed::{Geometry, Packed};
use crate::{Error, Prunable, Result, fault};

/// The tensors of a layer.
#[derive(Debug)]
pub(super) enum LayerTensors {
    Weights(Weights),
    Norm(Norm),
}

#[derive(Debug)]
pub(in crate::serve) struct Weights {
    pub(in crate::serve) weight: Tensor,
    pub(in crate::serve) bias: Option<Tensor>,
    pub(in crate::serve) packed: Option<Packed>,
}

#[derive(Debug)]
pub(in crate::serve) struct Norm {
    pub(in crate::serve) statistics: [Tensor; 2],
    pub(in crate::serve) affine: [Option<Tensor>; 2],
    pub(in crate::serve) folded: bool,
}

/// Properties of a layer that never change.
#[derive(Debug, Clone, Copy)]
pub(super) enum LayerInfo {
    Weights { transposed: Option<i64>, geometry: Option<Geometry> },
    Norm { eps: f64, folds: bool },
}

/// The tensors of all layers, by field path.
#[derive(Debug, Default)]
pub(super) struct ModelSnapshot(HashMap<String, LayerTensors>);

impl ModelSnapshot {
    pub(super) fn weights(&self, path: &str) -> Option<&Weights> {
        if let Some(LayerTensors::Weights(weights)) = self.0.get(path) {
            Some(weights)
        } else {
            None
        }
    }

    pub(super) fn norm(&self, path: &str) -> Option<&Norm> {
        if let Some(LayerTensors::Norm(norm)) = self.0.get(path) { Some(norm) } else { None }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn set(&mut self, path: &str, held: LayerTensors) {
        self.0.insert(path.to_owned(), held);
    }

    /// The layers that mix channels.
    pub(super) fn all_weights(&self) -> impl Iterator<Item = (&str, &Weights)> {
        self.0.keys().filter_map(|path| Some((path.as_str(), self.weights(path)?)))
    }

    /// Copies the handles; the tensors are shared.
    pub(super) fn shallow_clone(&self) -> Self {
        ModelSnapshot(
            self.0.iter().map(|(path, held)| (path.clone(), held.shallow_clone())).collect(),
        )
    }

    /// Handles of the same tensors, detached from the autograd graph.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn detached(&self) -> Result<Self> {
        let detached = |(path, held): (&String, &LayerTensors)| {
            Ok((path.clone(), held.detached().map_err(Error::torch(path))?))
        };
        self.0.iter().map(detached).collect::<Result<_>>().map(ModelSnapshot)
    }

    /// Gives every layer its tensors from this snapshot.
    ///
    /// # Errors
    /// Those of a hand-written `layers_mut`. Some layers have been changed then.
    pub(super) fn put<M: Prunable + ?Sized>(&self, model: &mut M) -> Result<()> {
        visit_layers(model, &mut |path, layer| {
            fault::point().map_err(Error::torch(path))?;
            self.hand_out(path, layer);
            Ok(())
        })
    }

    /// Like [`put`](Self::put), for use after a failure: a second failure cannot be handled any
    /// more and is ignored.
    pub(super) fn put_back<M: Prunable + ?Sized>(&self, model: &mut M) {
        let _ = visit_layers(model, &mut |path, layer| {
            self.hand_out(path, layer);
            Ok(())
        });
    }

    fn hand_out(&self, path: &str, layer: LayerMut) {
        match (layer, self.0.get(path)) {
            (LayerMut::Weights(layer), Some(LayerTensors::Weights(held))) => held.hand_out(layer),
            (LayerMut::Norm(layer), Some(LayerTensors::Norm(held))) => held.hand_out(layer),
            _ => {}
        }
    }
}

/// The tensors and the properties of a model's layers. Leaves out layers that share their path with
/// another layer, because nothing could tell them apart.
///
/// # Errors
/// Those of a hand-written `layers_mut`.
pub(super) fn survey<M: Prunable + ?Sized>(
    model: &mut M,
) -> Result<(ModelSnapshot, HashMap<String, LayerInfo>)> {
    let (mut form, mut traits, mut reached) =
        (ModelSnapshot::default(), HashMap::new(), HashMap::<String, usize>::new());
    visit_layers(model, &mut |path, layer| {
        fault::point().map_err(Error::torch(path))?;
        *reached.entry(path.to_owned()).or_default() += 1;
        traits.insert(path.to_owned(), layer.traits());
        form.set(path, layer.held());
        Ok(())
    })?;
    for (path, _) in reached.into_iter().filter(|(_, times)| *times > 1) {
        form.0.remove(&path);
        traits.remove(&path);
    }
    Ok((form, traits))
}

impl LayerMut<'_> {
    fn traits(&self) -> LayerInfo {
        match self {
            LayerMut::Weights(layer) => LayerInfo::Weights {
                transposed: layer.transposed,
                geometry: layer.packed.as_ref().map(|(_, geometry)| *geometry),
            },
            LayerMut::Norm(layer) => {
                LayerInfo::Norm { eps: layer.eps, folds: layer.folded.is_some() }
            }
        }
    }

    fn held(self) -> LayerTensors {
        match self {
            LayerMut::Weights(WeightsMut { weight, bias, packed, .. }) => {
                LayerTensors::Weights(Weights {
                    weight: weight.shallow_clone(),
                    bias: clone_of(bias),
                    packed: packed
                        .and_then(|(packed, _)| packed.as_ref().map(Packed::shallow_clone)),
                })
            }
            LayerMut::Norm(NormMut { statistics, affine, folded, .. }) => {
                LayerTensors::Norm(Norm {
                    statistics: statistics.map(|tensor| tensor.shallow_clone()),
                    affine: affine.map(|tensor| clone_of(tensor)),
                    folded: folded.is_some_and(|folded| *folded),
                })
            }
        }
    }
}

impl LayerTensors {
    fn shallow_clone(&self) -> Self {
        match self {
            LayerTensors::Weights(Weights { weight, bias, packed }) => {
                LayerTensors::Weights(Weights {
                    weight: weight.shallow_clone(),
                    bias: clone_of(bias),
                    packed: packed.as_ref().map(Packed::shallow_clone),
                })
            }
            LayerTensors::Norm(norm) => LayerTensors::Norm(norm.shallow_clone()),
        }
    }

    fn detached(&self) -> Result<Self, TchError> {
        let detached = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::f_detach).transpose();
        Ok(match self {
            LayerTensors::Weights(Weights { weight, bias, packed }) => {
                LayerTensors::Weights(Weights {
                    weight: weight.f_detach()?,
                    bias: detached(bias)?,
                    packed: packed.as_ref().map(Packed::shallow_clone),
                })
            }
            LayerTensors::Norm(Norm { statistics: [mean, var], affine: [gamma, beta], folded }) => {
                LayerTensors::Norm(Norm {
                    statistics: [mean.f_detach()?, var.f_detach()?],
                    affine: [detached(gamma)?, detached(beta)?],
                    folded: *folded,
                })
            }
        })
    }
}

impl Weights {
    fn hand_out(&self, layer: WeightsMut) {
        *layer.weight = self.weight.shallow_clone();
        *layer.bias = clone_of(&self.bias);
        if let Some((packed, _)) = layer.packed {
            *packed = self.packed.as_ref().map(Packed::shallow_clone);
        }
    }
}

impl Norm {
    pub(super) fn shallow_clone(&self) -> Self {
        let Self { statistics: [mean, var], affine: [gamma, beta], folded } = self;
        Self {
            statistics: [mean.shallow_clone(), var.shallow_clone()],
            affine: [clone_of(gamma), clone_of(beta)],
            folded: *folded,
        }
    }

    fn hand_out(&self, layer: NormMut) {
        layer
            .statistics
            .into_iter()
            .zip(&self.statistics)
            .for_each(|(field, held)| *field = held.shallow_clone());
        layer
            .affine
            .into_iter()
            .zip(&self.affine)
            .for_each(|(field, held)| *field = clone_of(held));
        if let Some(folded) = layer.folded {
            *folded = self.folded;
        }
    }
}

fn clone_of(tensor: &Option<Tensor>) -> Option<Tensor> {
    tensor.as_ref().map(Tensor::shallow_clone)
}
