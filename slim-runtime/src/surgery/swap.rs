//! New data for a tensor, in place: every handle of it sees the change.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use crate::absorb::{self, Shifts};
use crate::flow::ChannelId;
use crate::plan::Plan;
use crate::tracer::Graph;
use crate::{Error, Result};

/// The tensors that change, computed before any of them does.
#[derive(Default)]
pub(super) struct Swaps {
    swaps: Vec<Swap>,
}

struct Swap {
    name: String,
    target: Tensor,
    old: Tensor,
    new: Tensor,
    reset: Tensor,
}

impl Swaps {
    /// Selects, in every bound dimension of every tensor and its gradient, the positions that stay; of a tensor that absorbs, shifted.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor at hand.
    pub(super) fn selecting(graph: &Graph, plan: &Plan, shifts: &Shifts) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut indices = Indices::default();
        let mut swaps = Swaps::default();
        for (index, (node, layer)) in graph.layers.iter().zip(&plan.layers).enumerate() {
            for (tensor, bound) in node.tensors.iter().enumerate().filter(|(_, bound)| bound.tied.is_none()) {
                let shrinking = bound.axes.iter().enumerate().filter_map(|(dim, axis)| {
                    let (ids, planned) = (&node.axes[(*axis)?].ids, &layer.axes[(*axis)?]);
                    (planned.keep.len() < planned.width).then_some((dim as i64, ids, &planned.keep))
                });
                let shrinking: Vec<_> = shrinking.collect();
                let shift = shifts.of((index, tensor));
                if shrinking.is_empty() && shift.is_none() {
                    continue;
                }
                let name = format!("{}.{}", node.path, bound.name);
                let mut select = |tensor: &Tensor| {
                    let mut new = tensor.f_detach()?;
                    for &(dim, ids, keep) in &shrinking {
                        new = new.f_index_select(dim, indices.get(ids, keep.iter(), tensor)?)?;
                    }
                    Ok(new)
                };
                swaps.add(&name, &bound.tensor, |tensor| select(&absorb::shifted(tensor, shift)?))?;
                let grad = bound.tensor.f_grad().map_err(Error::torch(&name))?;
                if grad.defined() && !shrinking.is_empty() {
                    swaps.add(&name, &grad, &mut select)?;
                }
            }
        }
        Ok(swaps)
    }

    /// Adds a tensor that is to hold what `new` makes of it.
    ///
    /// # Errors
    /// [`Error::Torch`], with the tensor's name.
    pub(super) fn add(&mut self, name: &str, target: &Tensor, new: impl FnOnce(&Tensor) -> Result<Tensor, TchError>) -> Result<()> {
        let swap = new(target).and_then(|new| Swap::new(name.to_owned(), target, new)).map_err(Error::torch(name))?;
        self.swaps.push(swap);
        Ok(())
    }

    /// # Errors
    /// [`Error::Torch`], with the tensor at hand. The caller then rolls back.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.swaps.iter_mut().try_for_each(|swap| swap.put_new().map_err(Error::torch(&swap.name)))
    }

    /// Gives every tensor its old data back: the same memory, so the same bits.
    pub(super) fn roll_back(&mut self) {
        for swap in &mut self.swaps {
            // Pointers are exchanged and nothing is allocated, and the same exchange has just succeeded in the other
            // direction; there is also nothing left to do about a failure.
            let _ = swap.put_old();
        }
    }
}

impl Swap {
    fn new(name: String, target: &Tensor, new: Tensor) -> Result<Self, TchError> {
        let kind = if target.kind() == Kind::Float { Kind::Double } else { Kind::Float };
        Ok(Self {
            name,
            old: target.f_detach()?,
            reset: Tensor::f_empty([0], (kind, target.device()))?,
            target: target.shallow_clone(),
            new,
        })
    }

    fn put_new(&mut self) -> Result<(), TchError> {
        exchange(&mut self.target, &self.reset, &self.new)
    }

    fn put_old(&mut self) -> Result<(), TchError> {
        exchange(&mut self.target, &self.reset, &self.old)
    }
}

/// Replaces a tensor's data by way of an empty tensor of another kind.
///
/// A loss that is still alive keeps the tensor's gradient accumulator, which remembers the old shape and would make the
/// next backward pass fail. libtorch renews the accumulator when the data changes kind, but not when it changes shape.
fn exchange(target: &mut Tensor, reset: &Tensor, data: &Tensor) -> Result<(), TchError> {
    target.f_set_data(reset)?;
    target.f_set_data(data)
}

/// One index tensor per list of channels and device, however many tensors follow the list.
#[derive(Default)]
struct Indices(HashMap<(*const [ChannelId], String), Tensor>);

impl Indices {
    fn get(&mut self, ids: &std::rc::Rc<[ChannelId]>, keep: impl Iterator<Item = usize>, on: &Tensor) -> Result<&Tensor, TchError> {
        use std::collections::hash_map::Entry;
        let device = on.device();
        Ok(match self.0.entry((std::rc::Rc::as_ptr(ids), format!("{device:?}"))) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let positions: Vec<_> = keep.map(|position| position as i64).collect();
                entry.insert(Tensor::f_from_slice(&positions)?.f_to_device(device)?)
            }
        })
    }
}
