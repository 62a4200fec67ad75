//! Visits the layers of a model: their state that is not a tensor, and their tensors.

use std::fmt::Display;

use tch::Tensor;

use crate::numeric::packed::{Geometry, Packed};
use crate::{Prunable, Result};

/// Visits the layers of a model, by field path. The argument of [`Prunable::layers_mut`].
pub struct LayerVisitor<'s> {
    scope: Vec<String>,
    sink: &'s mut dyn LayerSink,
}

/// Receives the layers that are visited. Each method takes the field path of the layer.
pub(crate) trait LayerSink {
    /// Numbers of channels that the layer stores.
    fn sizes(&mut self, path: &str, name: &'static str, sizes: &mut [i64]) -> Result<()>;

    /// Positions of channels that the layer stores.
    fn indices(&mut self, path: &str, name: &'static str, indices: &mut Vec<i64>) -> Result<()>;

    /// The layer's tensors. Not called for a layer that does not lend them.
    fn layer(&mut self, path: &str, layer: LayerMut<'_>) -> Result<()>;

    /// Whether the visitor calls [`layer`](Self::layer).
    fn wants_layers(&self) -> bool;
}

/// A layer's tensors, lent by its [`layers_mut`](Prunable::layers_mut).
pub(crate) enum LayerMut<'l> {
    /// A layer that mixes channels.
    Weights(WeightsMut<'l>),
    /// A batch norm.
    Norm(NormMut<'l>),
}

pub(crate) struct WeightsMut<'l> {
    pub(crate) weight: &'l mut Tensor,
    pub(crate) bias: &'l mut Option<Tensor>,
    /// Number of groups of a transposed weight `[in, out / groups, …]`; `None` for a weight
    /// `[out, …]`.
    pub(crate) transposed: Option<i64>,
    /// Where the layer stores a packed weight, and the convolution's stride, padding, dilation and
    /// groups.
    pub(crate) packed: Option<(&'l mut Option<Packed>, Geometry)>,
}

pub(crate) struct NormMut<'l> {
    /// Running mean and variance.
    pub(crate) statistics: [&'l mut Tensor; 2],
    /// γ and β.
    pub(crate) affine: [&'l mut Option<Tensor>; 2],
    pub(crate) eps: f64,
    /// The layer's momentum, if it can be set.
    pub(crate) momentum: Option<&'l mut f64>,
    /// The layer's flag that it is folded and changes nothing, if there is such a flag.
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

/// Visits the tensors of all layers of a model, and leaves their other state alone.
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
    /// Visits a part, with the name that [`Tracer::field`](crate::Tracer::field) gave it.
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

    /// Visits a stored number of channels, with the name that
    /// [`LayerTracer::size`](crate::LayerTracer::size) gave it.
    ///
    /// # Errors
    /// [`WiringError::State`](crate::error::WiringError::State) when the number is not the width of
    /// the flow, [`WiringError::UnreachedState`](crate::error::WiringError::UnreachedState) when
    /// `trace` did not declare it.
    pub fn size(&mut self, name: &'static str, size: &mut i64) -> Result<()> {
        self.sizes(name, std::slice::from_mut(size))
    }

    /// Visits stored numbers of channels, with the name that
    /// [`LayerTracer::sizes`](crate::LayerTracer::sizes) gave them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn sizes(&mut self, name: &'static str, sizes: &mut [i64]) -> Result<()> {
        self.sink.sizes(&path(&self.scope), name, sizes)
    }

    /// Visits stored positions of channels, with the name that
    /// [`LayerTracer::indices`](crate::LayerTracer::indices) gave them.
    ///
    /// # Errors
    /// [`WiringError::State`](crate::error::WiringError::State) when the number of positions is not
    /// the width of the flow,
    /// [`WiringError::UnreachedState`](crate::error::WiringError::UnreachedState) when `trace` did
    /// not declare them.
    pub fn indices(&mut self, name: &'static str, indices: &mut Vec<i64>) -> Result<()> {
        self.sink.indices(&path(&self.scope), name, indices)
    }

    /// The weight and bias of a layer that keeps no packed weight. `transposed` is the number of
    /// groups of a weight `[in, out / groups, …]`.
    pub(crate) fn weights(
        &mut self,
        weight: &mut Tensor,
        bias: &mut Option<Tensor>,
        transposed: Option<i64>,
    ) -> Result<()> {
        self.layer(|| {
            Some(LayerMut::Weights(WeightsMut { weight, bias, transposed, packed: None }))
        })
    }

    /// Lends a layer's own tensors, for changes of more than the number of channels. `layer`
    /// returns `None` where the layer does not describe itself well enough.
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
