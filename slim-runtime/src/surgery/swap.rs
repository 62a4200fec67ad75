//! New data for a tensor, in place: every handle of it sees the change.

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

/// The tensors that change, computed before any of them does.
#[derive(Default)]
pub(super) struct Swaps {
    swaps: Vec<Swap>,
    /// How many of them have begun.
    begun: usize,
    /// Empty tensors of some kinds on some devices.
    resets: Vec<Rc<Tensor>>,
}

/// What a tensor is to hold. Where the shape stays, so does its memory.
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) target: Tensor,
    /// Has memory of its own.
    pub(crate) value: Tensor,
}

/// Gives tensors new values, all or none.
///
/// # Errors
/// [`Error::Torch`], with the tensor at hand. All are then as they were.
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

/// How a tensor gets its values.
enum WriteStrategy {
    /// By other memory, of any shape, and by way of an empty tensor of another kind. A loss that is
    /// still alive keeps the tensor's gradient accumulator, which remembers the old shape and would
    /// make the next backward pass fail; libtorch renews it when the data change kind, but not when
    /// they change shape.
    Exchange { reset: Rc<Tensor> },
    /// In the memory that it has, so that views and a `detach` of it follow.
    Copy,
}

impl Swaps {
    /// Selects, in every bound dimension of every tensor and its gradient, the positions that stay;
    /// of a tensor that absorbs, shifted.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor at hand.
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

    /// Adds a tensor that is to hold what `new` makes of it.
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

    /// An empty tensor of another kind than this one.
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

    /// Adds tensors and what they are to hold, whatever swaps were added for them before.
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

    /// Puts the new data in place. What panics or fails in between leaves a part of it done, for
    /// [`roll_back`](Self::roll_back) to undo.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor at hand.
    pub(super) fn commit(&mut self) -> Result<()> {
        for swap in &mut self.swaps {
            self.begun += 1;
            swap.put_new().map_err(Error::torch(&swap.name))?;
        }
        Ok(())
    }

    /// Gives every tensor that [`commit`](Self::commit) has touched its old data back: the same
    /// memory, and the same bits.
    pub(super) fn roll_back(&mut self) {
        for swap in self.swaps[..std::mem::take(&mut self.begun)].iter_mut().rev() {
            swap.put_old();
        }
    }

    /// The first of the tensors whose present values are not the old ones.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor at hand.
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

    /// Pointers are exchanged or values copied and nothing is allocated, so this does not fail; nor
    /// would there be anything left to do about it.
    fn put_old(&mut self) {
        let _ = self.way.put(&mut self.target, &self.old, || Ok(()));
    }

    /// A NaN that stays one is no change.
    fn changed(&self) -> Result<bool, TchError> {
        let same = self.target.size() == self.old.size()
            && self.target.f_allclose(&self.old, 0., 0., true)?;
        Ok(!same)
    }
}

impl WriteStrategy {
    /// `step` is asked between the steps, and may stop.
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
