//! The inverse of selecting: values at the positions that stay, zeros elsewhere.

use tch::{TchError, Tensor};

use super::fit::slim_difference;
use super::matching;
use super::swap::{Value, replace};
use crate::analysis::Graph;
use crate::plan::{KeepList, Plan};
use crate::{Error, Result};

pub(crate) fn expand(slim: &Graph, dense: &Graph, plan: &Plan) -> Result<()> {
    let difference = slim_difference(slim, plan, "the slim model")
        .or_else(|| matching::difference(dense, plan, "the dense model"));
    if let Some(difference) = difference {
        return Err(Error::PlanMismatch { difference });
    }
    let _no_grad = tch::no_grad_guard();
    let mut values = Vec::new();
    for ((narrow, wide), layer) in slim.layers.iter().zip(&dense.layers).zip(&plan.layers) {
        for (from, to) in
            narrow.tensors.iter().zip(&wide.tensors).filter(|(_, to)| to.tied.is_none())
        {
            let name = format!("{}.{}", wide.path, to.name);
            let kept = to.axes.iter().map(|axis| axis.map(|axis| &layer.axes[axis].keep));
            let value = spread(&from.tensor, &to.tensor, kept).map_err(Error::torch(&name))?;
            values.push(Value { name, target: to.tensor.shallow_clone(), value });
        }
    }
    replace(values)
}

/// The values of `narrow`, by dimension at the positions that `kept` has, in a tensor like `wide` of zeros.
fn spread<'k>(
    narrow: &Tensor,
    wide: &Tensor,
    kept: impl Iterator<Item = Option<&'k KeepList>>,
) -> Result<Tensor, TchError> {
    // Has memory of its own, whatever the slim model does to its tensors later.
    let mut value = narrow
        .f_detach()?
        .f_to_device(wide.device())?
        .f_to_kind(wide.f_kind()?)?
        .f_detach_copy()?;
    for (dim, kept) in kept.enumerate() {
        let mut size = value.size();
        let Some(kept) = kept.filter(|_| size[dim] < wide.size()[dim]) else { continue };
        size[dim] = wide.size()[dim];
        let positions: Vec<_> = kept.iter().map(|position| position as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(wide.device())?;
        value = Tensor::f_zeros(&size, (value.f_kind()?, wide.device()))?
            .f_index_copy(dim as i64, &positions, &value)?;
    }
    Ok(value)
}
