//! Visiting the layers of a model: their state that is no tensor, and the tensors themselves.

use std::fmt::Display;

use tch::Tensor;

use crate::numeric::packed::{Geometry, Packed};
use crate::{Prunable, Result};

/// Visits the layers of a model, by field path. What [`Prunable::layers_mut`] is called with.
pub struct LayerVisitor<'s> {
    scope: Vec<String>,
    sink: &'s mut dyn LayerSink,
}

/// What is done with the layers that are visited. Each method is given the field path of the layer.
pub(crate) trait LayerSink {
    /// Numbers of channels that the layer stores.
    fn sizes(&mut self, path: &str, name: &'static str, sizes: &mut [i64]) -> Result<()>;

    /// Positions of channels that the layer stores.
    fn indices(&mut self, path: &str, name: &'static str, indices: &mut Vec<i64>) -> Result<()>;

    /// The layer's tensors. It is not called for a layer that does not give them.
    fn layer(&mut self, path: &str, layer: LayerMut<'_>) -> Result<()>;

    /// Whether [`layer`](Self::layer) is to be called.
    fn wants_layers(&self) -> bool;
}

/// A layer, lent by its [`layers_mut`](Prunable::layers_mut).
pub(crate) enum LayerMut<'l> {
    /// One that mixes channels.
    Weights(WeightsMut<'l>),
    /// A batch norm.
    Norm(NormMut<'l>),
}

pub(crate) struct WeightsMut<'l> {
    pub(crate) weight: &'l mut Tensor,
    pub(crate) bias: &'l mut Option<Tensor>,
    /// The number of groups of a weight `[in, out / groups, …]`; any other is `[out, …]`.
    pub(crate) transposed: Option<i64>,
    /// Where it keeps a packed weight, and what it does with it.
    pub(crate) packed: Option<(&'l mut Option<Packed>, Geometry)>,
}

pub(crate) struct NormMut<'l> {
    /// Mean and variance.
    pub(crate) statistics: [&'l mut Tensor; 2],
    /// γ and β.
    pub(crate) affine: [&'l mut Option<Tensor>; 2],
    pub(crate) eps: f64,
    /// Where it keeps that it is to do nothing, if it can.
    pub(crate) folded: Option<&'l mut bool>,
}

/// Visits all layers of a model.
///
/// # Errors
/// Those of `sink` and of a hand-written [`layers_mut`](Prunable::layers_mut).
pub(crate) fn visit_with<M: Prunable + ?Sized>(
    model: &mut M,
    sink: &mut dyn LayerSink,
) -> Result<()> {
    model.layers_mut(&mut LayerVisitor { scope: Vec::new(), sink })
}

/// Visits the tensors of all layers of a model, and leaves alone what else they store.
///
/// # Errors
/// Those of `visit` and of a hand-written [`layers_mut`](Prunable::layers_mut).
pub(crate) fn visit_layers<M: Prunable + ?Sized>(
    model: &mut M,
    visit: &mut dyn FnMut(&str, LayerMut<'_>) -> Result<()>,
) -> Result<()> {
    struct Layers<'v>(&'v mut dyn FnMut(&str, LayerMut<'_>) -> Result<()>);

    impl LayerSink for Layers<'_> {
        fn sizes(&mut self, _: &str, _: &'static str, _: &mut [i64]) -> Result<()> {
            Ok(())
        }

        fn indices(&mut self, _: &str, _: &'static str, _: &mut Vec<i64>) -> Result<()> {
            Ok(())
        }

        fn layer(&mut self, path: &str, layer: LayerMut<'_>) -> Result<()> {
            (self.0)(path, layer)
        }

        fn wants_layers(&self) -> bool {
            true
        }
    }

    visit_with(model, &mut Layers(visit))
}

impl LayerVisitor<'_> {
    /// Visits a part, under the name that [`Tracer::field`](crate::Tracer::field) gave it.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn field(
        &mut self,
        name: impl Display,
        visit: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.scope.push(name.to_string());
        let visited = visit(self);
        self.scope.pop();
        visited
    }

    /// A stored number of channels, under the name that
    /// [`LayerTracer::size`](crate::LayerTracer::size) gave it.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) when the number is not the width of the flow,
    /// [`Error::UnreachedState`](crate::Error::UnreachedState) when `trace` did not name it.
    pub fn size(&mut self, name: &'static str, size: &mut i64) -> Result<()> {
        self.sizes(name, std::slice::from_mut(size))
    }

    /// Stored numbers of channels, under the name that
    /// [`LayerTracer::sizes`](crate::LayerTracer::sizes) gave them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn sizes(&mut self, name: &'static str, sizes: &mut [i64]) -> Result<()> {
        self.sink.sizes(&path(&self.scope), name, sizes)
    }

    /// Stored positions of channels, under the name that
    /// [`LayerTracer::indices`](crate::LayerTracer::indices) gave them.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) when there are not as many as the flow has channels,
    /// [`Error::UnreachedState`](crate::Error::UnreachedState) when `trace` did not name them.
    pub fn indices(&mut self, name: &'static str, indices: &mut Vec<i64>) -> Result<()> {
        self.sink.indices(&path(&self.scope), name, indices)
    }

    /// A layer's own tensors, for those who change more than the number of channels. `None` where
    /// the layer does not say enough of itself.
    pub(crate) fn layer<'l>(&mut self, layer: impl FnOnce() -> Option<LayerMut<'l>>) -> Result<()> {
        match self.sink.wants_layers().then(layer).flatten() {
            Some(layer) => self.sink.layer(&path(&self.scope), layer),
            None => Ok(()),
        }
    }
}

fn path(scope: &[String]) -> String {
    if scope.is_empty() { "model".to_owned() } else { scope.join(".") }
}
