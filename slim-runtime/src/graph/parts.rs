//! The parts of a model: visits them, and finds a part by its address.

use std::any::type_name;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::rc::Rc;

use tch::{TchError, Tensor};

use crate::error::{CheckError, WiringError};
use crate::graph::{Memory, Tracer, memory};
use crate::{Error, Flow, Prunable, Result};

/// The largest number of elements of a field that is copied before a `forward` runs, which may
/// change the field.
const MOST_COPIED: usize = 1 << 20;

/// Visits the parts of a model, by field path. The argument of [`Prunable::parts`].
pub struct PartVisitor<'s> {
    scope: Vec<String>,
    keep: bool,
    sink: &'s mut dyn Sink,
}

/// Receives the parts that are visited.
trait Sink {
    /// Visits a part: its path, address and type, and whether its output channels are held.
    fn part(&mut self, path: &[String], address: usize, type_name: &'static str, keep: bool);

    /// The part that was visited last is a layer.
    fn layer(
        &mut self,
        path: &[String],
        trace: &dyn Fn(&mut Tracer, Flow) -> Result<Flow>,
    ) -> Result<()>;

    /// The part that was visited last is a layer, and this tensor scales its channels; `None` if
    /// there is no scale.
    fn scaled_layer(&mut self, path: &[String], scale: Option<(&'static str, &Tensor)>);

    /// Visits a tensor that is a field.
    fn tensor(&mut self, path: &[String], tensor: &Tensor);

    /// The part that was visited last is deployed, so it is for inference only.
    fn deployed(&mut self, path: &[String]) -> Result<()>;
}

impl<'s> PartVisitor<'s> {
    fn new(scope: &[String], sink: &'s mut dyn Sink) -> Self {
        Self { scope: scope.to_vec(), keep: false, sink }
    }

    /// Visits a part, with the name that [`Tracer::field`](crate::Tracer::field) gives it.
    ///
    /// # Errors
    /// Those of the part's [`parts`](Prunable::parts).
    pub fn field<P: Prunable + ?Sized>(&mut self, name: impl Display, part: &P) -> Result<()> {
        self.scope.push(name.to_string());
        let visited = self.same(part);
        self.scope.pop();
        visited
    }

    /// Like [`field`](Self::field), for a part whose output channels are never removed.
    ///
    /// # Errors
    /// As for [`field`](Self::field).
    pub fn kept_field<P: Prunable + ?Sized>(&mut self, name: impl Display, part: &P) -> Result<()> {
        let outer = std::mem::replace(&mut self.keep, true);
        let visited = self.field(name, part);
        self.keep = outer;
        visited
    }

    /// Visits a part under the path of its owner: the content of an [`Option`] or a [`Box`], or the
    /// field of a variant.
    ///
    /// # Errors
    /// As for [`field`](Self::field).
    pub fn same<P: Prunable + ?Sized>(&mut self, part: &P) -> Result<()> {
        self.sink.part(&self.scope, address(part), type_name::<P>(), self.keep);
        // Only the part that a field names is kept. The parts inside it have paths of their own.
        let keep = std::mem::replace(&mut self.keep, false);
        let visited = part.parts(self);
        self.keep = keep;
        visited
    }

    /// Like [`same`](Self::same), for a part whose output channels are never removed.
    ///
    /// # Errors
    /// As for [`field`](Self::field).
    pub fn kept<P: Prunable + ?Sized>(&mut self, part: &P) -> Result<()> {
        let outer = std::mem::replace(&mut self.keep, true);
        let visited = self.same(part);
        self.keep = outer;
        visited
    }

    /// Marks the part being visited as a layer with this symbolic pass: the default of
    /// [`Prunable::parts`].
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) for a hand-written composite, which
    /// must visit its parts.
    pub fn layer(&mut self, trace: impl Fn(&mut Tracer, Flow) -> Result<Flow>) -> Result<()> {
        self.sink.layer(&self.scope, &trace)
    }

    /// Marks the part being visited as a layer. `scale` is the tensor whose magnitudes rank its
    /// channels (a batch norm's γ) with its name, if there is one.
    pub fn scaled_layer(&mut self, scale: Option<(&'static str, &Tensor)>) {
        self.sink.scaled_layer(&self.scope, scale);
    }

    /// Marks the part being visited as deployed, so that it is for inference only.
    pub(crate) fn deployed(&mut self) -> Result<()> {
        self.sink.deployed(&self.scope)
    }

    /// Visits a tensor that is a field: a parameter or a buffer that `forward` uses directly.
    pub fn tensor(&mut self, name: impl Display, tensor: &Tensor) {
        self.scope.push(name.to_string());
        self.sink.tensor(&self.scope, tensor);
        self.scope.pop();
    }
}

fn address<P: ?Sized>(part: &P) -> usize {
    std::ptr::from_ref(part).cast::<()>() as usize
}

/// The parts of a model, found by address and type.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    by_address: HashMap<usize, Vec<usize>>,
    tensors: Vec<FieldTensor>,
}

#[derive(Debug)]
struct Part {
    path: Rc<[String]>,
    type_name: &'static str,
    keep: bool,
    is_layer: bool,
    /// The index after the last part that this part contains.
    end: usize,
    uses: Cell<usize>,
}

/// A part that a `forward` applies.
pub(crate) struct Found {
    /// Absolute path.
    pub(crate) path: Rc<[String]>,
    pub(crate) keep: bool,
}

/// A tensor that is a field.
#[derive(Debug)]
pub(crate) struct FieldTensor {
    pub(crate) path: Vec<String>,
    pub(crate) tensor: Tensor,
}

impl Parts {
    /// Collects the parts of a model at this path.
    ///
    /// # Errors
    /// Those of a hand-written [`Prunable::parts`].
    pub(crate) fn of<M: Prunable + ?Sized>(model: &M, path: &[String]) -> Result<Self> {
        let mut parts = Parts::default();
        PartVisitor::new(path, &mut parts).same(model)?;
        parts.close();
        Ok(parts)
    }

    /// Sets the end of each part: the next part whose path does not begin with this part's path.
    fn close(&mut self) {
        let mut open = Vec::new();
        for index in 0..self.parts.len() {
            let path = Rc::clone(&self.parts[index].path);
            while let Some(&outer) = open.last() {
                let outer: &mut Part = &mut self.parts[outer];
                if path.starts_with(&outer.path) {
                    break;
                }
                outer.end = index;
                open.pop();
            }
            open.push(index);
        }
        for index in open {
            self.parts[index].end = self.parts.len();
        }
    }

    /// Whether the part is known at this path.
    pub(crate) fn knows<P: ?Sized>(&self, part: &P, path: &[String]) -> bool {
        self.at(part).any(|index| *self.parts[index].path == *path)
    }

    /// Finds a part that is applied, and marks the part and those inside it as used.
    ///
    /// Zero-sized parts may share an address; they are taken in turn.
    pub(crate) fn apply<P: ?Sized>(&self, part: &P) -> Option<Found> {
        let index = self.at(part).min_by_key(|&index| self.parts[index].uses.get())?;
        let Part { path, keep, uses, .. } = &self.parts[index];
        uses.set(uses.get() + 1);
        self.inside(index).for_each(|part| part.uses.set(part.uses.get() + 1));
        Some(Found { path: Rc::clone(path), keep: *keep })
    }

    /// Called when a part's `forward` is read: removes the marks that [`apply`](Self::apply) set on
    /// the parts inside, since the `forward` applies those itself.
    pub(crate) fn enter<P: ?Sized>(&self, part: &P, path: &[String]) {
        let index = self.at(part).find(|&index| *self.parts[index].path == *path);
        if let Some(index) = index {
            self.inside(index).for_each(|part| part.uses.set(part.uses.get().saturating_sub(1)));
        }
    }

    /// The parts of this type at this address. A struct and its first field have the same address,
    /// and so may zero-sized parts.
    fn at<P: ?Sized>(&self, part: &P) -> impl Iterator<Item = usize> {
        let found = self.by_address.get(&address(part)).into_iter().flatten().copied();
        found.filter(|&index| self.parts[index].type_name == type_name::<P>())
    }

    /// The parts inside a part. They are visited directly after it.
    fn inside(&self, index: usize) -> impl Iterator<Item = &Part> {
        self.parts[index + 1..self.parts[index].end].iter()
    }

    /// Paths of the layers that no `forward` has applied.
    pub(crate) fn unused(&self) -> Vec<String> {
        let unused = self.parts.iter().filter(|part| part.is_layer && part.uses.get() == 0);
        unused.map(|part| part.path.join(".")).collect()
    }

    /// Copies the small tensors that are fields, so that changes by a `forward` can be undone.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(crate) fn copies(&self) -> std::result::Result<Vec<(&Tensor, Tensor)>, TchError> {
        let _no_grad = tch::no_grad_guard();
        let is_small = |tensor: &&Tensor| {
            let strides = || {
                tensor
                    .stride()
                    .iter()
                    .zip(tensor.size())
                    .all(|(&stride, size)| stride > 0 || size == 1)
            };
            tensor.defined()
                && memory(tensor).is_some()
                && tensor.numel() <= MOST_COPIED
                && strides()
        };
        let copy = |tensor| {
            let mut copy = Tensor::f_empty_like(tensor)?;
            copy.f_copy_(tensor)?;
            Ok((tensor, copy))
        };
        self.tensors.iter().map(|field| &field.tensor).filter(is_small).map(copy).collect()
    }

    /// Undoes the changes of a `forward` to tensors that are fields, such as a counter of steps.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(crate) fn restore(copies: &[(&Tensor, Tensor)]) -> std::result::Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        for (tensor, copy) in copies {
            if !tensor.f_equal(copy)? {
                tensor.shallow_clone().f_copy_(copy)?;
            }
        }
        Ok(())
    }

    /// The field that a tensor is or is a view of, and whether the tensor covers the whole field.
    pub(crate) fn tensor(&self, tensor: &Tensor) -> Option<(&FieldTensor, bool)> {
        let (start, _) = memory(tensor)?;
        self.tensors.iter().find_map(|field| {
            let (from, _) = memory(&field.tensor)?;
            let bytes = field.tensor.numel() * field.tensor.kind().elt_size_in_bytes();
            (from..from + bytes.max(1)).contains(&start).then(|| {
                let whole = from == start && tensor.numel() >= field.tensor.numel();
                (field, whole)
            })
        })
    }
}

impl Sink for Parts {
    fn part(&mut self, path: &[String], address: usize, type_name: &'static str, keep: bool) {
        let uses = Cell::new(0);
        let index = self.parts.len();
        let (path, end) = (path.into(), index + 1);
        self.parts.push(Part { path, type_name, keep, is_layer: false, end, uses });
        self.by_address.entry(address).or_default().push(index);
    }

    fn layer(&mut self, _: &[String], _: &dyn Fn(&mut Tracer, Flow) -> Result<Flow>) -> Result<()> {
        if let Some(last) = self.parts.last_mut() {
            last.is_layer = true;
        }
        Ok(())
    }

    fn scaled_layer(&mut self, _: &[String], _: Option<(&'static str, &Tensor)>) {
        if let Some(last) = self.parts.last_mut() {
            last.is_layer = true;
        }
    }

    fn tensor(&mut self, path: &[String], tensor: &Tensor) {
        let (path, tensor) = (path.to_vec(), tensor.shallow_clone());
        self.tensors.push(FieldTensor { path, tensor });
    }

    fn deployed(&mut self, _: &[String]) -> Result<()> {
        Ok(())
    }
}

/// A tensor that scales the channels of a layer, with the layer's path.
pub(crate) struct Scale {
    pub(crate) path: String,
    pub(crate) name: &'static str,
    pub(crate) tensor: Tensor,
}

/// The scales of a model's layers. A shared tensor is returned once.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) for a hand-written composite that does
/// not visit its parts.
pub(crate) fn scales<M: Prunable + ?Sized>(model: &M) -> Result<Vec<Scale>> {
    let mut scales = Scales::default();
    PartVisitor::new(&[], &mut scales).same(model)?;
    Ok(scales.scales)
}

#[derive(Default)]
struct Scales {
    scales: Vec<Scale>,
    known: HashSet<Memory>,
}

impl Scales {
    fn add(&mut self, path: &[String], name: &'static str, tensor: &Tensor) {
        if memory(tensor).is_none_or(|memory| self.known.insert(memory)) {
            let path = path.join(".");
            self.scales.push(Scale { path, name, tensor: tensor.shallow_clone() });
        }
    }
}

impl Sink for Scales {
    fn part(&mut self, _: &[String], _: usize, _: &'static str, _: bool) {}

    /// Traces the layer alone: the trace names the scale.
    fn layer(
        &mut self,
        path: &[String],
        trace: &dyn Fn(&mut Tracer, Flow) -> Result<Flow>,
    ) -> Result<()> {
        let mut cx = Tracer::default();
        let input = cx.open();
        let traced = cx.fields(path, |cx| trace(cx, input));
        let own = |layer: &crate::graph::LayerNode| layer.path == path.join(".");
        let layers = &cx.recording.layers;
        if let Some(part) = layers.iter().find(|layer| !path.is_empty() && !own(layer)) {
            let reason = format!(
                "it has parts, such as `{}`, that its hand-written `Prunable` does not visit; implement `Prunable::parts`",
                part.path
            );
            return Err(Error::Wiring(WiringError::Layer { path: path.join("."), reason }));
        }
        traced?;
        for layer in &cx.recording.layers {
            if let Some(ranked) = layer.ranked.as_ref().filter(|ranked| ranked.is_scale) {
                let bound = &layer.tensors[ranked.tensor];
                self.add(path, bound.name, &bound.tensor);
            }
        }
        Ok(())
    }

    fn scaled_layer(&mut self, path: &[String], scale: Option<(&'static str, &Tensor)>) {
        if let Some((name, tensor)) = scale {
            self.add(path, name, tensor);
        }
    }

    fn tensor(&mut self, _: &[String], _: &Tensor) {}

    fn deployed(&mut self, path: &[String]) -> Result<()> {
        Err(Error::Check(CheckError::Deployed { path: path.join(".") }))
    }
}
