//! Swaps: new data for a tensor, in place, so that every handle of the tensor sees the change.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use tch::{Device, Kind, TchError, Tensor};

use super::positions::KeptPositions;
use super::selection::Workspace;
use crate::analysis::Graph;
use crate::plan::Plan;
use crate::surgery::absorb;
use crate::surgery::absorb::Shifts;
use crate::{Error, Result, fault};

/// The new data of all tensors that change, computed before the first tensor changes.
#[derive(Default)]
pub(super) struct Swaps {
    swaps: Vec<Swap>,
    /// The number of swaps that have begun.
    begun: usize,
    /// Empty tensors of another kind, by kind and device, shared by all swaps that need one.
    resets: Vec<Rc<Tensor>>,
}

/// New values for a tensor. If the shape stays, the tensor keeps its memory.
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) target: Tensor,
    /// Has memory of its own.
    pub(crate) value: Tensor,
}

/// Gives tensors new values: all of them or none.
///
/// # Errors
/// [`Error::Torch`], with the tensor. All tensors are unchanged then.
pub(crate) fn replace(values: Vec<Value>) -> Result<()> {
    let mut swaps = Swaps::default();
    swaps.add_values(values)?;
    let committed = catch_unwind(AssertUnwindSafe(|| swaps.commit()));
    if !matches!(committed, Ok(Ok(()))) {
        swaps.roll_back();
    }
    committed.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Swap {
    name: String,
    target: Tensor,
    old: Tensor,
    new: Tensor,
    way: WriteStrategy,
}

/// How a tensor gets its new values.
enum WriteStrategy {
    /// Exchanges the memory, for data of any shape, by way of an empty tensor of another kind. A
    /// loss that is still alive keeps the tensor's gradient accumulator, which remembers the old
    /// shape and would make the next backward pass fail. libtorch renews the accumulator when the
    /// data change kind, but not when they change shape.
    Exchange { reset: Rc<Tensor> },
    /// Writes into the existing memory, so that views and a `detach` of the tensor follow.
    Copy,
}

impl Swaps {
    /// Selects the positions that stay, in every bound dimension of every tensor and its gradient.
    /// A tensor that absorbs is shifted first.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor.
    pub(super) fn selecting(graph: &Graph, plan: &Plan, shifts: &Shifts) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut positions =
            KeptPositions::staying(graph, plan).map_err(Error::torch("the positions that stay"))?;
        let (mut workspace, mut swaps) = (Workspace::default(), Swaps::default());
        for (index, node) in graph.layers.iter().enumerate() {
            for (tensor, bound) in
                node.tensors.iter().enumerate().filter(|(_, bound)| bound.tied.is_none())
            {
                let (cut, shift) = (positions.cut(index, &bound.axes), shifts.of((index, tensor)));
                if cut.is_empty() && shift.is_none() {
                    continue;
                }
                let name = format!("{}.{}", node.path, bound.name);
                let mut staying = |tensor: &Tensor| {
                    let lists = positions.on(tensor.device())?;
                    let cuts: Vec<_> = cut.iter().map(|&(dim, list)| (dim, &lists[list])).collect();
                    workspace.select(tensor, &cuts)
                };
                swaps.add(&name, &bound.tensor, |tensor| match shift {
                    None => staying(tensor),
                    Some(shift) => staying(&absorb::shifted(tensor, shift)?),
                })?;
                let grad = bound.tensor.f_grad().map_err(Error::torch(&name))?;
                if grad.defined() && !cut.is_empty() {
                    swaps.add(&name, &grad, staying)?;
                }
            }
        }
        Ok(swaps)
    }

    /// Adds a tensor and computes its new data with `new`.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor's name.
    pub(super) fn add(
        &mut self,
        name: &str,
        target: &Tensor,
        new: impl FnOnce(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<()> {
        let new = fault::point().and_then(|()| new(target));
        let swap = new
            .and_then(|new| Swap::new(name.to_owned(), target, new, self.reset(target)?))
            .map_err(Error::torch(name))?;
        self.swaps.push(swap);
        Ok(())
    }

    /// An empty tensor of another kind than `target`, on the same device.
    fn reset(&mut self, target: &Tensor) -> Result<Rc<Tensor>, TchError> {
        let kind = if target.kind() == Kind::Float { Kind::Double } else { Kind::Float };
        let options: (Kind, Device) = (kind, target.device());
        if let Some(known) =
            self.resets.iter().find(|reset| (reset.kind(), reset.device()) == options)
        {
            return Ok(Rc::clone(known));
        }
        let reset = Rc::new(Tensor::f_empty([0], options)?);
        self.resets.push(Rc::clone(&reset));
        Ok(reset)
    }

    /// Adds tensors and their new values, which take effect after swaps that were added for the
    /// same tensors before.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor's name.
    pub(super) fn add_values(&mut self, values: Vec<Value>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        values.into_iter().try_for_each(|Value { name, target, value }| {
            if target.size() != value.size() {
                return self.add(&name, &target, |_| Ok(value));
            }
            let swap = fault::point()
                .and_then(|()| Swap::in_place(name.clone(), &target, value))
                .map_err(Error::torch(name))?;
            self.swaps.push(swap);
            Ok(())
        })
    }

    /// Puts the new data in place. If a swap panics or fails, the swaps before it are done, for
    /// [`roll_back`](Self::roll_back) to undo.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor.
    pub(super) fn commit(&mut self) -> Result<()> {
        for swap in &mut self.swaps {
            self.begun += 1;
            swap.put_new().map_err(Error::torch(&swap.name))?;
        }
        Ok(())
    }

    /// Gives every tensor that [`commit`](Self::commit) touched its old data back: the same memory
    /// and the same bits.
    pub(super) fn roll_back(&mut self) {
        for swap in self.swaps[..std::mem::take(&mut self.begun)].iter_mut().rev() {
            swap.put_old();
        }
    }

    /// The first tensor whose current values differ from the old ones.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor.
    pub(super) fn first_changed(&self) -> Result<Option<&str>> {
        for swap in &self.swaps {
            if swap.changed().map_err(Error::torch(&swap.name))? {
                return Ok(Some(&swap.name));
            }
        }
        Ok(None)
    }
}

impl Swap {
    fn new(
        name: String,
        target: &Tensor,
        new: Tensor,
        reset: Rc<Tensor>,
    ) -> Result<Self, TchError> {
        Ok(Self {
            name,
            old: target.f_detach()?,
            target: target.shallow_clone(),
            new,
            way: WriteStrategy::Exchange { reset },
        })
    }

    fn in_place(name: String, target: &Tensor, new: Tensor) -> Result<Self, TchError> {
        Ok(Self {
            name,
            old: target.f_detach_copy()?,
            target: target.shallow_clone(),
            new,
            way: WriteStrategy::Copy,
        })
    }

    fn put_new(&mut self) -> Result<(), TchError> {
        self.way.put(&mut self.target, &self.new, fault::point)
    }

    /// Exchanges pointers or copies values and allocates nothing, so it does not fail. If it did,
    /// nothing could be done about it.
    fn put_old(&mut self) {
        let _ = self.way.put(&mut self.target, &self.old, || Ok(()));
    }

    /// A NaN that is still a NaN is not a change.
    fn changed(&self) -> Result<bool, TchError> {
        let same = self.target.size() == self.old.size()
            && self.target.f_allclose(&self.old, 0., 0., true)?;
        Ok(!same)
    }
}

impl WriteStrategy {
    /// Calls `step` before, between and after the steps; an error of `step` stops it.
    fn put(
        &self,
        target: &mut Tensor,
        data: &Tensor,
        step: impl Fn() -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        step()?;
        match self {
            WriteStrategy::Exchange { reset } => {
                target.f_set_data(reset)?;
                step()?;
                target.f_set_data(data)?;
            }
            WriteStrategy::Copy => target.f_copy_(data)?,
        }
        step()
    }
}
