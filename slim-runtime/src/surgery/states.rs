//! State of a model that depends on channels and is not a tensor: numbers of channels, and
//! positions of channels.

use std::collections::{BTreeMap, HashMap};

use crate::analysis::Graph;
use crate::error::WiringError;
use crate::graph::{KeepList, LayerMut, LayerSink, State, visit_with};
use crate::plan::{LayerPlan, Plan};
use crate::{Error, Prunable, Result, fault};

/// The change of one piece of state.
struct StateChange {
    kind: Kind,
    reached: bool,
}

enum Kind {
    /// Numbers of channels, before and after.
    Sizes { before: Vec<i64>, after: Vec<i64> },
    /// Positions in a dimension that keeps `from`, one for each of the `width` positions of a
    /// dimension that keeps `to`.
    Indices { from: KeepList, to: KeepList, width: usize, old: Vec<i64> },
}

#[derive(Clone, Copy)]
enum Mode {
    Check,
    Write,
    Restore,
}

/// Visits the layers of a model and checks, writes or restores the state that a plan changes.
struct StateWriter<'s> {
    states: &'s mut HashMap<(String, &'static str), StateChange>,
    mode: Mode,
}

impl LayerSink for StateWriter<'_> {
    fn sizes(&mut self, path: &str, name: &'static str, sizes: &mut [i64]) -> Result<()> {
        let mode = self.mode;
        self.step(path)?;
        match &mut self.known(path, name)?.kind {
            Kind::Sizes { before, after } => match mode {
                Mode::Check | Mode::Write if sizes != before => {
                    return Err(Error::Wiring(WiringError::State {
                        path: path.to_owned(),
                        name: name.to_owned(),
                        expected: list(before),
                        found: list(sizes),
                    }));
                }
                Mode::Check => {}
                Mode::Write => sizes.copy_from_slice(after),
                Mode::Restore if sizes.len() == before.len() => sizes.copy_from_slice(before),
                Mode::Restore => {}
            },
            Kind::Indices { .. } => return Err(unreached(path, name, "layers_mut", "trace")),
        }
        self.step(path)
    }

    fn indices(&mut self, path: &str, name: &'static str, indices: &mut Vec<i64>) -> Result<()> {
        let mode = self.mode;
        self.step(path)?;
        match &mut self.known(path, name)?.kind {
            Kind::Indices { from, to, width, old } => match mode {
                Mode::Check if indices.len() != *width => {
                    let (expected, found) =
                        (format!("{width} positions"), format!("{} of them", indices.len()));
                    let (path, name) = (path.to_owned(), name.to_owned());
                    return Err(Error::Wiring(WiringError::State { path, name, expected, found }));
                }
                Mode::Check => old.clone_from(indices),
                Mode::Write => *indices = renumbered(old, from, to),
                Mode::Restore => indices.clone_from(old),
            },
            Kind::Sizes { .. } => return Err(unreached(path, name, "layers_mut", "trace")),
        }
        self.step(path)
    }

    fn layer(&mut self, _: &str, _: LayerMut<'_>) -> Result<()> {
        Ok(())
    }

    fn wants_layers(&self) -> bool {
        false
    }
}

impl StateWriter<'_> {
    /// Failure point before and after a state is written, because a user's code runs there and may
    /// fail.
    fn step(&self, path: &str) -> Result<()> {
        match self.mode {
            Mode::Check | Mode::Write => fault::point().map_err(|cause| Error::torch(path)(cause)),
            Mode::Restore => Ok(()),
        }
    }

    fn known(&mut self, path: &str, name: &'static str) -> Result<&mut StateChange> {
        match self.states.get_mut(&(path.to_owned(), name)) {
            Some(change) if change.reached && !matches!(self.mode, Mode::Restore) => {
                let reason = format!(
                    "two layers have `{name}` here; give each a name of its own with `field`"
                );
                Err(Error::Wiring(WiringError::Layer { path: path.to_owned(), reason }))
            }
            Some(change) => {
                change.reached = true;
                Ok(change)
            }
            None => Err(unreached(path, name, "layers_mut", "trace")),
        }
    }
}

/// `6`, or `[6, 8]`.
fn list(numbers: &[i64]) -> String {
    if let [number] = numbers { number.to_string() } else { format!("{numbers:?}") }
}

/// Selects the positions that `to` keeps and renumbers them by their rank in `from`.
fn renumbered(old: &[i64], from: &KeepList, to: &KeepList) -> Vec<i64> {
    let rank: HashMap<i64, i64> =
        from.iter().enumerate().map(|(rank, position)| (position as i64, rank as i64)).collect();
    to.iter().filter_map(|position| rank.get(&old[position]).copied()).collect()
}

fn unreached(path: &str, name: &str, declared: &'static str, missing: &'static str) -> Error {
    Error::Wiring(WiringError::UnreachedState {
        path: path.to_owned(),
        name: name.to_owned(),
        declared,
        missing,
    })
}

/// All state that a plan changes.
#[derive(Default)]
pub(super) struct States {
    states: HashMap<(String, &'static str), StateChange>,
}

impl States {
    pub(super) fn collect(graph: &Graph, plan: &Plan) -> Self {
        let layers = graph.layers.iter().zip(&plan.layers);
        let states = layers.flat_map(|(node, layer)| {
            let change = |state| StateChange { kind: kind(layer, state), reached: false };
            node.states.iter().map(move |(name, state)| ((node.path.clone(), *name), change(state)))
        });
        Self { states: states.collect() }
    }

    /// # Errors
    /// Those of [`LayerVisitor`], and [`WiringError::UnreachedState`](crate::error::WiringError::UnreachedState) when `layers_mut` leaves out a
    /// state.
    pub(super) fn check<M: Prunable + ?Sized>(&mut self, model: &mut M) -> Result<()> {
        self.visit_all(model, Mode::Check)
    }

    /// # Errors
    /// Those of [`check`](Self::check). Some of the state may be written then.
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
            Some((path, name)) => Err(unreached(path, name, "trace", "layers_mut")),
        }
    }

    /// The positions that are stored once the plan is carried out, by path and name. Known after
    /// [`check`](Self::check).
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
        // A mask changes no state. Without this return, every state that `layers_mut` visits would
        // be reported as undeclared.
        if self.states.is_empty() && !matches!(mode, Mode::Check) {
            return Ok(());
        }
        visit_with(model, &mut StateWriter { states: &mut self.states, mode })
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
