//! Penalties that drive channels to zero during training.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use crate::analysis::{self, Graph, Masking};
use crate::error::{ArgumentError, SelectionError};
use crate::graph::{Role, parts};
use crate::{Error, Prunable, Result};

/// What is penalised. `s` is the factor that each step gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Penalty {
    /// `s · Σ|γ|` over the scales of batch norms: Network Slimming (Liu et al., ICCV 2017).
    L1,
    /// `s · Σγ²` over the scales of batch norms.
    L2,
    /// `s · Σ_g ‖w_g‖₂` over the channel groups `g` that can be removed (Wen et al., "Learning
    /// Structured Sparsity in Deep Neural Networks", NIPS 2016). `w_g` has all parameters that go
    /// with the group: filters and biases of the layers that make its channels, γ and β, and the
    /// weights by which other layers read them. A weight is in the group that it makes and in the
    /// one that it reads.
    GroupLasso,
}

/// A penalty on the parameters of one network. Made by
/// [`Prunable::regulariser`](crate::Prunable::regulariser).
///
/// ```
/// use slim_runtime::{Penalty, Prunable, model, nn};
/// use tch::nn::{ModuleT, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(8);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(8 => 10);
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = Net::new(vs.root());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.1).unwrap();
/// let lasso = net.regulariser(Penalty::GroupLasso)?;
/// # let (images, labels) = (Tensor::randn([4, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::zeros([4], (Kind::Int64, Device::Cpu)));
/// for step in 0..10 {
///     optimizer.zero_grad();
///     net.forward_t(&images, true).cross_entropy_for_logits(&labels).backward();
///     lasso.add_gradient(1e-3 * f64::from(step) / 10.)?; // a ramp
///     optimizer.step();
/// }
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug)]
pub struct Regulariser {
    penalty: Penalty,
    parts: Vec<Part>,
    /// The number of channel groups of a group lasso.
    groups: i64,
}

/// A tensor that is penalised.
#[derive(Debug)]
struct Part {
    path: String,
    tensor: Tensor,
    size: Vec<i64>,
    /// For each dimension that follows channels: the group of each position, `[positions]`. Held
    /// channels are in a group behind the others, which is not penalised.
    dims: Vec<(i64, Tensor)>,
}

impl Regulariser {
    /// # Errors
    /// Those of [`Prunable::regulariser`](crate::Prunable::regulariser).
    pub(crate) fn new<M: Prunable + ?Sized>(model: &M, penalty: Penalty) -> Result<Self> {
        let (parts, groups) = match penalty {
            Penalty::L1 | Penalty::L2 => (scales(model)?, 0),
            Penalty::GroupLasso => groups(&analysis::trace(model, Masking::Parameters)?)?,
        };
        if parts.is_empty() {
            let reason = match penalty {
                Penalty::GroupLasso => "no channels of the model can be removed",
                _ => "the model has no batch norm with a scale (γ) to make sparse",
            };
            let reason = reason.to_owned();
            return Err(Error::Selection(SelectionError::NothingToPrune { reason }));
        }
        Ok(Self { penalty, parts, groups })
    }

    /// Adds the gradient of the penalty, with the factor `s`, to the gradients. Call it after
    /// `backward` and before `step`. A parameter without a gradient is left alone. Where the
    /// penalty has a kink, at 0, its gradient counts as 0.
    ///
    /// With gradients of a scaled loss, as in mixed precision with a loss scale, unscale them
    /// before: the penalty is added as it is.
    ///
    /// # Errors
    /// [`ArgumentError::SparsityFactor`](crate::error::ArgumentError::SparsityFactor);
    /// [`SelectionError::NoGradient`](crate::error::SelectionError::NoGradient) when no trained
    /// parameter has a gradient, for example before `backward`; [`Error::Torch`], also for a
    /// parameter that was slimmed since: make another.
    pub fn add_gradient(&self, s: f64) -> Result<()> {
        check(s)?;
        let _no_grad = tch::no_grad_guard();
        let factors = match self.penalty {
            Penalty::GroupLasso => Some(self.factors()?),
            _ => None,
        };
        let mut reached = false;
        for part in &self.parts {
            let add = || {
                let mut gradient = part.tensor.f_grad()?;
                if !gradient.defined() {
                    return Ok(false);
                }
                let own = match (self.penalty, &factors) {
                    (Penalty::L1, _) => part.tensor.f_sign()?.f_mul_scalar(s)?,
                    (Penalty::L2, _) => part.tensor.f_mul_scalar(2. * s)?,
                    (_, Some(factors)) => part.scaled(factors)?.f_mul_scalar(s)?,
                    (_, None) => return Ok(false),
                };
                let _ = gradient.f_add_(&own.f_to_kind(gradient.f_kind()?)?)?;
                Ok(true)
            };
            reached |= add().map_err(Error::torch(&part.path))?;
        }
        if !reached && self.parts.iter().any(|part| part.tensor.requires_grad()) {
            return Err(Error::Selection(SelectionError::NoGradient));
        }
        Ok(())
    }

    /// The proximal step of the penalty, after `step`: what minimises
    /// `½(γ − γ_step)² + t · penalty` takes the place of each γ. For [`Penalty::L1`], that is soft
    /// thresholding, `sign(γ) · max(|γ| − t, 0)`, after which γ of unimportant channels are exactly
    /// 0; for [`Penalty::L2`], `γ / (1 + 2t)`. `t` is the learning rate times the factor. Use it in
    /// place of [`add_gradient`](Self::add_gradient).
    ///
    /// # Errors
    /// [`ArgumentError::SparsityFactor`](crate::error::ArgumentError::SparsityFactor);
    /// [`ArgumentError::NoProximalStep`](crate::error::ArgumentError::NoProximalStep) for a group
    /// lasso; [`Error::Torch`].
    pub fn shrink(&self, t: f64) -> Result<()> {
        check(t)?;
        if self.penalty == Penalty::GroupLasso {
            return Err(Error::Argument(ArgumentError::NoProximalStep));
        }
        let _no_grad = tch::no_grad_guard();
        for part in self.parts.iter().filter(|part| part.tensor.requires_grad()) {
            let shrink = || {
                let scale = &part.tensor;
                let shrunk = match self.penalty {
                    Penalty::L1 => {
                        scale.f_sign()?.f_mul(&scale.f_abs()?.f_sub_scalar(t)?.f_clamp_min(0.)?)?
                    }
                    _ => scale.f_div_scalar(1. + 2. * t)?,
                };
                scale.shallow_clone().f_copy_(&shrunk)
            };
            shrink().map_err(Error::torch(&part.path))?;
        }
        Ok(())
    }

    /// The value of the penalty, for the factor 1.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn value(&self) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        if self.penalty == Penalty::GroupLasso {
            let norms = || self.norms()?.f_sum(Kind::Double)?.f_double_value(&[]);
            return norms().map_err(Error::torch("the group lasso"));
        }
        self.parts.iter().try_fold(0., |sum, part| {
            let own = || {
                let wide = part.tensor.f_to_kind(Kind::Double)?;
                let values =
                    if self.penalty == Penalty::L1 { wide.f_abs()? } else { wide.f_square()? };
                values.f_sum(Kind::Double)?.f_double_value(&[])
            };
            Ok(sum + own().map_err(Error::torch(&part.path))?)
        })
    }

    /// `1 / ‖w_g‖` of each group, and 0 where the norm is 0, and for held channels: `[groups + 1]`.
    fn factors(&self) -> Result<Tensor> {
        let factors = || {
            let norms = self.norms()?;
            let inverse = norms.f_reciprocal()?.f_nan_to_num(0., 0., 0.)?;
            let held = Tensor::f_zeros([1], (Kind::Double, inverse.device()))?;
            Tensor::f_cat(&[inverse, held], 0)
        };
        factors().map_err(Error::torch("the group lasso"))
    }

    /// `‖w_g‖` of each group, `[groups]`.
    fn norms(&self) -> Result<Tensor, TchError> {
        let mut squares =
            Tensor::f_zeros([self.groups + 1], (Kind::Double, self.parts[0].tensor.device()))?;
        for part in &self.parts {
            let values = part.tensor.f_detach()?.f_to_kind(Kind::Double)?.f_square()?;
            for (dim, group) in &part.dims {
                let others: Vec<i64> =
                    (0..values.dim() as i64).filter(|other| other != dim).collect();
                let own = match &others[..] {
                    [] => values.shallow_clone(),
                    others => values.f_sum_dim_intlist(others, false, Kind::Double)?,
                };
                let _ = squares.f_index_add_(0, group, &own)?;
            }
        }
        squares.f_narrow(0, 0, self.groups)?.f_sqrt()
    }
}

impl Part {
    /// The tensor, times the factors of the groups of each value.
    fn scaled(&self, factors: &Tensor) -> Result<Tensor, TchError> {
        let wide = self.tensor.f_to_kind(Kind::Double)?;
        let mut sum = Tensor::f_zeros_like(&wide)?;
        for (dim, group) in &self.dims {
            let mut shape = vec![1; self.size.len()];
            shape[*dim as usize] = -1;
            let factors = factors.f_index_select(0, group)?.f_view(&shape[..])?;
            let _ = sum.f_add_(&wide.f_mul(&factors)?)?;
        }
        Ok(sum)
    }
}

fn check(factor: f64) -> Result<()> {
    if factor.is_finite() && factor >= 0. {
        Ok(())
    } else {
        Err(Error::Argument(ArgumentError::SparsityFactor(factor)))
    }
}

fn scales<M: Prunable + ?Sized>(model: &M) -> Result<Vec<Part>> {
    let part = |scale: parts::Scale| Part {
        path: format!("{}.{}", scale.path, scale.name),
        size: scale.tensor.size(),
        tensor: scale.tensor,
        dims: Vec::new(),
    };
    Ok(parts::scales(model)?.into_iter().map(part).collect())
}

/// The parameters that go with channel groups, and the number of groups that can be removed.
fn groups(graph: &Graph) -> Result<(Vec<Part>, i64)> {
    let mut numbers: HashMap<usize, i64> = HashMap::new();
    let removable = graph.channel_group.iter().map(|&group| group as usize);
    for group in removable.filter(|&group| graph.held[group].is_none()) {
        let next = numbers.len() as i64;
        numbers.entry(group).or_insert(next);
    }
    let held = numbers.len() as i64;
    let mut parts = Vec::new();
    for node in &graph.layers {
        let parameters = node.tensors.iter().filter(|bound| bound.role == Role::Parameter);
        for bound in parameters.filter(|bound| bound.tied.is_none()) {
            let path = format!("{}.{}", node.path, bound.name);
            let mut dims = Vec::new();
            for (dim, axis) in bound.axes.iter().enumerate() {
                let Some(axis) = axis else { continue };
                let ids = node.axes[*axis].ids.iter();
                let of: Vec<i64> = ids
                    .map(|&id| numbers.get(&graph.channel_group(id)).copied().unwrap_or(held))
                    .collect();
                if of.iter().any(|&group| group != held) {
                    let of = Tensor::f_from_slice(&of)
                        .and_then(|of| of.f_to_device(bound.tensor.device()))
                        .map_err(Error::torch(&path))?;
                    dims.push((dim as i64, of));
                }
            }
            if !dims.is_empty() {
                let (tensor, size) = (bound.tensor.shallow_clone(), bound.tensor.size());
                parts.push(Part { path, tensor, size, dims });
            }
        }
    }
    Ok((parts, held))
}
