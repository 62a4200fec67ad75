//! The parameters that a penalty is on, and the channel groups that they go with.

use std::collections::{HashMap, HashSet};

use tch::{Kind, TchError, Tensor};

use crate::analysis::Graph;
use crate::graph::{Role, parts};
use crate::{Error, Prunable, Result};

/// A tensor that is penalised.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) tensor: Tensor,
    pub(super) size: Vec<i64>,
    /// The dimensions that follow channels.
    dims: Vec<Followed>,
}

/// A dimension of a tensor that follows channels.
#[derive(Debug)]
struct Followed {
    dim: i64,
    /// The group of each position, `[positions]`. Channels that are not penalised are in a group
    /// behind the others.
    groups: Tensor,
    /// 1 where the values of a group count, and 0 where they count in a dimension before this one:
    /// a convolution in a residual stream may read the channels that it makes. The shape broadcasts
    /// to the tensor's. `None` if all count.
    counts: Option<Tensor>,
}

impl Part {
    /// Adds `‖w_g‖²` of what the tensor has of each group, `[groups + 1]`.
    pub(super) fn add_squares(&self, squares: &mut Tensor) -> Result<(), TchError> {
        let values = self.tensor.f_detach()?.f_to_kind(Kind::Double)?.f_square()?;
        for Followed { dim, groups, counts } in &self.dims {
            let counted = match counts {
                Some(counts) => values.f_mul(counts)?,
                None => values.shallow_clone(),
            };
            let others: Vec<i64> = (0..values.dim() as i64).filter(|other| other != dim).collect();
            let own = match &others[..] {
                [] => counted,
                others => counted.f_sum_dim_intlist(others, false, Kind::Double)?,
            };
            let _ = squares.f_index_add_(0, groups, &own)?;
        }
        Ok(())
    }

    /// For each value, the sum of the factors of its groups. The shape broadcasts to the tensor's.
    pub(super) fn spread(&self, factors: &Tensor) -> Result<Tensor, TchError> {
        let mut sum = Tensor::f_zeros(vec![1; self.size.len()], (Kind::Double, factors.device()))?;
        for Followed { dim, groups, counts } in &self.dims {
            let factors = factors.f_index_select(0, groups)?;
            let factors = factors.f_view(&along(self.size.len(), *dim)[..])?;
            sum = sum.f_add(&match counts {
                Some(counts) => factors.f_mul(counts)?,
                None => factors,
            })?;
        }
        Ok(sum)
    }
}

/// The shape of a list along dimension `dim` of `dims`, to broadcast.
fn along(dims: usize, dim: i64) -> Vec<i64> {
    (0..dims as i64).map(|other| if other == dim { -1 } else { 1 }).collect()
}

/// The scales of batch norms.
///
/// # Errors
/// Those of [`Prunable::parts`].
pub(super) fn scales<M: Prunable + ?Sized>(model: &M) -> Result<Vec<Part>> {
    let part = |scale: parts::Scale| Part {
        path: format!("{}.{}", scale.path, scale.name),
        size: scale.tensor.size(),
        tensor: scale.tensor,
        dims: Vec::new(),
    };
    Ok(parts::scales(model)?.into_iter().map(part).collect())
}

/// The parameters that go with the channel groups that are penalised, and the number of these
/// groups.
pub(super) fn groups(
    graph: &Graph,
    is_penalised: impl Fn(usize) -> bool,
) -> Result<(Vec<Part>, i64)> {
    let mut numbers: HashMap<usize, i64> = HashMap::new();
    let all = graph.channel_group.iter().map(|&group| group as usize);
    for group in all.filter(|&group| is_penalised(group)) {
        let next = numbers.len() as i64;
        numbers.entry(group).or_insert(next);
    }
    let others = numbers.len() as i64;
    let mut parts = Vec::new();
    for node in &graph.layers {
        let parameters = node.tensors.iter().filter(|bound| bound.role == Role::Parameter);
        for bound in parameters.filter(|bound| bound.tied.is_none()) {
            let path = format!("{}.{}", node.path, bound.name);
            let mut lists: Vec<(i64, Vec<i64>)> = Vec::new();
            for (dim, axis) in bound.axes.iter().enumerate() {
                let Some(axis) = axis else { continue };
                let ids = node.axes[*axis].ids.iter();
                let of: Vec<i64> = ids
                    .map(|&id| numbers.get(&graph.channel_group(id)).copied().unwrap_or(others))
                    .collect();
                if of.iter().any(|&group| group != others) {
                    lists.push((dim as i64, of));
                }
            }
            let dims = followed(&bound.tensor, &lists, others).map_err(Error::torch(&path))?;
            if !dims.is_empty() {
                let (tensor, size) = (bound.tensor.shallow_clone(), bound.tensor.size());
                parts.push(Part { path, tensor, size, dims });
            }
        }
    }
    Ok((parts, others))
}

/// The dimensions of a tensor with the group of each position; `others` is the group that is not
/// penalised.
fn followed(
    tensor: &Tensor,
    lists: &[(i64, Vec<i64>)],
    others: i64,
) -> Result<Vec<Followed>, TchError> {
    let on_device = |of: &[i64]| Tensor::f_from_slice(of)?.f_to_device(tensor.device());
    let mut dims: Vec<Followed> = Vec::new();
    for (at, (dim, of)) in lists.iter().enumerate() {
        let groups = on_device(of)?;
        let own: HashSet<&i64> = of.iter().filter(|&&group| group != others).collect();
        let mut counts: Option<Tensor> = None;
        for ((before, list), Followed { groups: before_groups, .. }) in
            lists[..at].iter().zip(&dims)
        {
            if !list.iter().any(|group| own.contains(group)) {
                continue;
            }
            let view = |groups: &Tensor, dim| groups.f_view(&along(tensor.dim(), dim)[..]);
            let differs = view(&groups, *dim)?
                .f_ne_tensor(&view(before_groups, *before)?)?
                .f_to_kind(Kind::Double)?;
            counts = Some(match counts {
                Some(counts) => counts.f_mul(&differs)?,
                None => differs,
            });
        }
        dims.push(Followed { dim: *dim, groups, counts });
    }
    Ok(dims)
}
