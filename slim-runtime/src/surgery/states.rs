//! State of a model that depends on channels and is no tensor: numbers that count them, positions among them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use crate::analysis::Graph;
use crate::deploy::LayerMut;
use crate::graph::State;
use crate::plan::{KeepList, LayerPlan, Plan};
use crate::{Error, Prunable, Result, fault};

/// Reaches the state of a model's layers, by field path and name. What [`Prunable::layers_mut`] is called with.
pub struct LayerVisitor<'s> {
    scope: Vec<String>,
    states: &'s mut HashMap<(String, &'static str), Change>,
    mode: Mode,
    /// What else is done with the layers themselves, by field path.
    layers: Option<VisitLayer<'s>>,
}

/// Sees a layer, at its field path.
type VisitLayer<'s> = &'s mut dyn FnMut(&str, LayerMut<'_>) -> Result<()>;

/// What becomes of a piece of state.
struct Change {
    kind: Kind,
    reached: bool,
}

enum Kind {
    /// Numbers before and after.
    Sizes { before: Vec<i64>, after: Vec<i64> },
    /// Positions in a dimension that keeps `from`, one for each of the `width` positions of another that keeps `to`.
    Indices { from: KeepList, to: KeepList, width: usize, old: Vec<i64> },
}

#[derive(Clone, Copy)]
enum Mode {
    Check,
    Write,
    Restore,
    /// State is none of its business.
    Pass,
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

    /// A stored number of channels, under the name that [`LayerTracer::size`](crate::LayerTracer::size) gave it.
    ///
    /// # Errors
    /// [`Error::State`] when the number is not the width of the flow, [`Error::UnreachedState`] when `trace` did not name it.
    pub fn size(&mut self, name: &'static str, size: &mut i64) -> Result<()> {
        self.sizes(name, std::slice::from_mut(size))
    }

    /// Stored numbers of channels, under the name that [`LayerTracer::sizes`](crate::LayerTracer::sizes) gave them.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn sizes(&mut self, name: &'static str, sizes: &mut [i64]) -> Result<()> {
        let (path, mode) = (self.path(), self.mode);
        if matches!(mode, Mode::Pass) {
            return Ok(());
        }
        self.step()?;
        match &mut self.known(name)?.kind {
            Kind::Sizes { before, after } => match mode {
                Mode::Check | Mode::Write if sizes != before => {
                    return Err(Error::State {
                        path,
                        name: name.to_owned(),
                        expected: list(before),
                        found: list(sizes),
                    });
                }
                Mode::Check => {}
                Mode::Write => sizes.copy_from_slice(after),
                Mode::Restore if sizes.len() == before.len() => sizes.copy_from_slice(before),
                Mode::Restore | Mode::Pass => {}
            },
            Kind::Indices { .. } => return Err(unreached(path, name, "layers_mut", "trace")),
        }
        self.step()
    }

    /// Stored positions of channels, under the name that [`LayerTracer::indices`](crate::LayerTracer::indices) gave them.
    ///
    /// # Errors
    /// [`Error::State`] when there are not as many as the flow has channels, [`Error::UnreachedState`] when `trace` did not name them.
    pub fn indices(&mut self, name: &'static str, indices: &mut Vec<i64>) -> Result<()> {
        let (path, mode) = (self.path(), self.mode);
        if matches!(mode, Mode::Pass) {
            return Ok(());
        }
        self.step()?;
        match &mut self.known(name)?.kind {
            Kind::Indices { from, to, width, old } => match mode {
                Mode::Check if indices.len() != *width => {
                    let (expected, found) =
                        (format!("{width} positions"), format!("{} of them", indices.len()));
                    return Err(Error::State { path, name: name.to_owned(), expected, found });
                }
                Mode::Check => old.clone_from(indices),
                Mode::Write => *indices = renumbered(old, from, to),
                Mode::Restore => indices.clone_from(old),
                Mode::Pass => {}
            },
            Kind::Sizes { .. } => return Err(unreached(path, name, "layers_mut", "trace")),
        }
        self.step()
    }

    /// A layer's own tensors, for those who change more than the number of channels. `None` where the layer does not say enough of itself.
    pub(crate) fn layer<'l>(&mut self, layer: impl FnOnce() -> Option<LayerMut<'l>>) -> Result<()> {
        let path = self.path();
        match (&mut self.layers, self.mode) {
            (Some(visit), Mode::Pass) => layer().map_or(Ok(()), |layer| visit(&path, layer)),
            _ => Ok(()),
        }
    }

    /// A user's code runs before and after a state is written, and may fail.
    fn step(&self) -> Result<()> {
        match self.mode {
            Mode::Check | Mode::Write => {
                fault::point().map_err(|cause| Error::torch(self.path())(cause))
            }
            Mode::Restore | Mode::Pass => Ok(()),
        }
    }

    fn path(&self) -> String {
        if self.scope.is_empty() { "model".to_owned() } else { self.scope.join(".") }
    }

    fn known(&mut self, name: &'static str) -> Result<&mut Change> {
        let path = self.path();
        match self.states.get_mut(&(path.clone(), name)) {
            Some(change) if change.reached && !matches!(self.mode, Mode::Restore) => {
                Err(Error::Layer {
                    path,
                    reason: format!(
                        "two layers have `{name}` here; give each a name of its own with `field`"
                    ),
                })
            }
            Some(change) => {
                change.reached = true;
                Ok(change)
            }
            None => Err(unreached(path, name, "layers_mut", "trace")),
        }
    }
}

/// Visits the layers themselves, and leaves alone what [`LayerVisitor`] is else for.
///
/// # Errors
/// Those of `visit` and of a hand-written `layers_mut`.
pub(crate) fn visit_layers<M: Prunable + ?Sized>(model: &mut M, visit: VisitLayer) -> Result<()> {
    model.layers_mut(&mut LayerVisitor {
        scope: Vec::new(),
        states: &mut HashMap::new(),
        mode: Mode::Pass,
        layers: Some(visit),
    })
}

/// `6`, or `[6, 8]`.
fn list(numbers: &[i64]) -> String {
    if let [number] = numbers { number.to_string() } else { format!("{numbers:?}") }
}

/// The positions that stay, counted among those that stay in the dimension that they point into.
fn renumbered(old: &[i64], from: &KeepList, to: &KeepList) -> Vec<i64> {
    let rank: HashMap<i64, i64> =
        from.iter().enumerate().map(|(rank, position)| (position as i64, rank as i64)).collect();
    to.iter().filter_map(|position| rank.get(&old[position]).copied()).collect()
}

fn unreached(path: String, name: &str, declared: &'static str, missing: &'static str) -> Error {
    Error::UnreachedState { path, name: name.to_owned(), declared, missing }
}

/// The state that a plan changes.
#[derive(Default)]
pub(super) struct States {
    states: HashMap<(String, &'static str), Change>,
}

impl States {
    pub(super) fn collect(graph: &Graph, plan: &Plan) -> Self {
        let layers = graph.layers.iter().zip(&plan.layers);
        let states = layers.flat_map(|(node, layer)| {
            let change = |state| Change { kind: kind(layer, state), reached: false };
            node.states.iter().map(move |(name, state)| ((node.path.clone(), *name), change(state)))
        });
        Self { states: states.collect() }
    }

    /// # Errors
    /// Those of [`LayerVisitor`], and [`Error::UnreachedState`] when `layers_mut` leaves something out.
    pub(super) fn check<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit_all(model, Mode::Check)
    }

    /// # Errors
    /// As for [`check`](Self::check). Some of the state may be written then.
    pub(super) fn write<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit_all(model, Mode::Write)
    }

    /// # Errors
    /// Those of a hand-written `layers_mut`.
    pub(super) fn restore<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit(model, Mode::Restore)
    }

    fn visit_all<M: Prunable + ?Sized>(&mut self, model: &mut M, mode: Mode) -> Result<()> {
        self.states.values_mut().for_each(|change| change.reached = false);
        self.visit(model, mode)?;
        match self.states.iter().filter(|(_, change)| !change.reached).map(|(key, _)| key).min() {
            None => Ok(()),
            Some((path, name)) => Err(unreached(path.clone(), name, "trace", "layers_mut")),
        }
    }

    /// The positions that are stored once the plan is carried out, by path and name. Known when [`check`](Self::check) has been there.
    pub(super) fn positions(&self) -> BTreeMap<String, Vec<i64>> {
        let indices = self.states.iter().filter_map(|((path, name), change)| match &change.kind {
            Kind::Indices { from, to, old, .. } => {
                Some((format!("{path}.{name}"), renumbered(old, from, to)))
            }
            Kind::Sizes { .. } => None,
        });
        indices.collect()
    }

    fn visit<M: Prunable + ?Sized>(&mut self, model: &mut M, mode: Mode) -> Result<()> {
        // A mask changes none, and what `layers_mut` says would then be unknown.
        if self.states.is_empty() && !matches!(mode, Mode::Check) {
            return Ok(());
        }
        model.layers_mut(&mut LayerVisitor {
            scope: Vec::new(),
            states: &mut self.states,
            mode,
            layers: None,
        })
    }
}

fn kind(layer: &LayerPlan, state: &State) -> Kind {
    match state {
        State::Sizes(axes) => Kind::Sizes {
            before: axes.iter().map(|&axis| layer.axes[axis].width as i64).collect(),
            after: axes.iter().map(|&axis| layer.axes[axis].keep.len() as i64).collect(),
        },
        State::Indices { from, to } => {
            let (from, to) = (&layer.axes[*from], &layer.axes[*to]);
            Kind::Indices {
                from: from.keep.clone(),
                to: to.keep.clone(),
                width: to.width,
                old: Vec::new(),
            }
        }
    }
}
