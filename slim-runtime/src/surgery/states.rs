//! Numbers in a model that count channels and are no tensors.

use std::collections::HashMap;
use std::fmt::Display;

use crate::plan::Plan;
use crate::tracer::Graph;
use crate::{Error, Prunable, Result};

/// Reaches the state of a model's layers, by field path and name. What [`Prunable::layers_mut`] is called with.
pub struct LayerVisitor<'s> {
    scope: Vec<String>,
    sizes: &'s mut HashMap<(String, &'static str), Size>,
    mode: Mode,
}

/// A number that counts channels.
struct Size {
    before: i64,
    after: i64,
    reached: bool,
}

#[derive(Clone, Copy)]
enum Mode {
    Check,
    Write,
    Restore,
}

impl LayerVisitor<'_> {
    /// Visits a part, under the name that [`Tracer::field`](crate::Tracer::field) gave it.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn field(&mut self, name: impl Display, visit: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.scope.push(name.to_string());
        let visited = visit(self);
        self.scope.pop();
        visited
    }

    /// A stored number of channels, under the name that [`LayerTracer::size`](crate::LayerTracer::size) gave it.
    ///
    /// # Errors
    /// [`Error::SizeState`] when the number is not the width of the flow, [`Error::UnreachedState`] when `trace` did not name it.
    pub fn size(&mut self, name: &'static str, size: &mut i64) -> Result<()> {
        let path = if self.scope.is_empty() { "model".to_owned() } else { self.scope.join(".") };
        let Some(known) = self.sizes.get_mut(&(path.clone(), name)) else {
            return Err(Error::UnreachedState { path, name: name.to_owned(), declared: "layers_mut", missing: "trace" });
        };
        match self.mode {
            Mode::Check if *size != known.before => {
                return Err(Error::SizeState { path, name: name.to_owned(), expected: known.before, found: *size });
            }
            Mode::Check => known.reached = true,
            Mode::Write => *size = known.after,
            Mode::Restore => *size = known.before,
        }
        Ok(())
    }
}

/// The numbers that a plan changes.
pub(super) struct States {
    sizes: HashMap<(String, &'static str), Size>,
}

impl States {
    pub(super) fn collect(graph: &Graph, plan: &Plan) -> Self {
        let layers = graph.layers.iter().zip(&plan.layers);
        let sizes = layers.flat_map(|(node, layer)| {
            node.sizes.iter().map(|&(name, axis)| {
                let axis = &layer.axes[axis];
                let size = Size { before: axis.width as i64, after: axis.keep.len() as i64, reached: false };
                ((node.path.clone(), name), size)
            })
        });
        Self { sizes: sizes.collect() }
    }

    /// # Errors
    /// Those of [`LayerVisitor::size`], and [`Error::UnreachedState`] when `layers_mut` leaves a number out.
    pub(super) fn check<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit(model, Mode::Check)?;
        match self.sizes.iter().filter(|(_, size)| !size.reached).map(|(key, _)| key).min() {
            None => Ok(()),
            Some((path, name)) => {
                Err(Error::UnreachedState { path: path.clone(), name: (*name).to_owned(), declared: "trace", missing: "layers_mut" })
            }
        }
    }

    pub(super) fn write<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit(model, Mode::Write)
    }

    pub(super) fn restore<M: Prunable + ?Sized>(&mut self, model: &mut M) {
        // Whatever stopped `write` stops this in the same place, behind the last number that was written.
        let _ = self.visit(model, Mode::Restore);
    }

    fn visit<M: Prunable + ?Sized>(&mut self, model: &mut M, mode: Mode) -> Result<()> {
        model.layers_mut(&mut LayerVisitor { scope: Vec::new(), sizes: &mut self.sizes, mode })
    }
}
