//! Penalties that drive channels to zero during training.

use std::collections::HashSet;

use tch::{Device, Kind, TchError, Tensor};

use crate::analysis::{self, Masking};
use crate::error::{ArgumentError, SelectionError};
use crate::plan::Plan;
use crate::train::parts::{Part, groups, scales};
use crate::{Error, Prunable, Result, surgery};

/// What an error of libtorch calls the values of all groups.
const OF_GROUPS: &str = "the penalty on channel groups";

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
    /// one that it reads, and once in a group that it both makes and reads.
    GroupLasso,
}

/// A penalty on the parameters of one network. Made by
/// [`Prunable::regulariser`](crate::Prunable::regulariser) and [`Plan::regulariser`].
///
/// ```
/// use slim_runtime::{Penalty, Prunable, Schedule, model, nn};
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
///     lasso.add_gradient(1e-3 * Schedule::constant().ramp(10).at(step))?;
///     optimizer.step();
/// }
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug)]
pub struct Regulariser {
    formula: Formula,
    parts: Vec<Part>,
    /// The number of channel groups that are penalised.
    groups: i64,
}

/// The value of a penalty, for the factor 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formula {
    /// `Σ|γ|`.
    Absolute,
    /// `Σγ²`.
    Squares,
    /// `Σ_g ‖w_g‖₂`.
    GroupNorms,
    /// `Σ_g ‖w_g‖₂²`.
    GroupSquares,
}

impl Regulariser {
    /// # Errors
    /// Those of [`Prunable::regulariser`](crate::Prunable::regulariser).
    pub(crate) fn new<M: Prunable + ?Sized>(model: &M, penalty: Penalty) -> Result<Self> {
        let (formula, (parts, groups)) = match penalty {
            Penalty::L1 => (Formula::Absolute, (scales(model)?, 0)),
            Penalty::L2 => (Formula::Squares, (scales(model)?, 0)),
            Penalty::GroupLasso => {
                let graph = analysis::trace(model, Masking::Parameters)?;
                (Formula::GroupNorms, groups(&graph, |group| graph.held[group].is_none())?)
            }
        };
        let reason = match penalty {
            Penalty::GroupLasso => "no channels of the model can be removed",
            _ => "the model has no batch norm with a scale (γ) to make sparse",
        };
        Self { formula, parts, groups }.not_empty(reason)
    }

    fn not_empty(self, reason: &str) -> Result<Self> {
        if self.parts.is_empty() {
            let reason = reason.to_owned();
            return Err(Error::Selection(SelectionError::NothingToPrune { reason }));
        }
        Ok(self)
    }

    /// Adds the gradient of the penalty, with the factor `s`, to the gradients. Call it after
    /// `backward` and before `step`. A parameter without a gradient is left alone. Where the
    /// penalty has a kink, at 0, its gradient counts as 0.
    ///
    /// # Mixed precision
    ///
    /// [`tch::autocast`] casts weights for single operations and leaves the parameters as they are,
    /// so parameters and gradients are float32, and the gradient of the penalty is as exact as
    /// without it. Call this outside of the closure that autocast runs.
    ///
    /// If the loss is scaled by `c`, so that small gradients do not become 0 in half precision, all
    /// gradients are, and the penalty is added as it is: unscale the gradients before, or give the
    /// factor `c · s` and unscale afterwards. In steps that are skipped because gradients
    /// overflowed, nothing needs to be added.
    ///
    /// Where the parameters themselves are in half precision, as after `VarStore::half`, the sum is
    /// rounded to theirs: bfloat16 has 8 bits, so a penalty of 1e-4 beside a gradient of 0.1 is
    /// lost. Keep the parameters in float32.
    ///
    /// # Errors
    /// [`ArgumentError::SparsityFactor`](crate::error::ArgumentError::SparsityFactor);
    /// [`SelectionError::NoGradient`](crate::error::SelectionError::NoGradient) when no trained
    /// parameter has a gradient, for example before `backward`; [`Error::Torch`], also for a
    /// parameter that was slimmed since: make another.
    pub fn add_gradient(&self, s: f64) -> Result<()> {
        check(s)?;
        let _no_grad = tch::no_grad_guard();
        let factors = self.factors().map_err(Error::torch(OF_GROUPS))?;
        let mut reached = false;
        for part in &self.parts {
            let add = || {
                let mut gradient = part.tensor.f_grad()?;
                if !gradient.defined() {
                    return Ok(false);
                }
                let own = match (&factors, self.formula) {
                    (Some(factors), _) => {
                        let wide = part.tensor.f_to_kind(Kind::Double)?;
                        wide.f_mul(&part.spread(factors)?)?.f_mul_scalar(s)?
                    }
                    (None, Formula::Absolute) => part.tensor.f_sign()?.f_mul_scalar(s)?,
                    (None, _) => part.tensor.f_mul_scalar(2. * s)?,
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
    /// `½(w − w_step)² + t · penalty` takes the place of each parameter `w`. For [`Penalty::L1`],
    /// that is soft thresholding, `sign(γ) · max(|γ| − t, 0)`, after which γ of unimportant
    /// channels are exactly 0; for [`Penalty::L2`], `γ / (1 + 2t)`; for [`Plan::regulariser`],
    /// `w / (1 + 2nt)`, where `n` is the number of removed groups that have `w`. `t` is the
    /// learning rate times the factor. Use it in place of [`add_gradient`](Self::add_gradient).
    ///
    /// # Errors
    /// [`ArgumentError::SparsityFactor`](crate::error::ArgumentError::SparsityFactor);
    /// [`ArgumentError::NoProximalStep`](crate::error::ArgumentError::NoProximalStep) for a group
    /// lasso; [`Error::Torch`].
    pub fn shrink(&self, t: f64) -> Result<()> {
        check(t)?;
        if self.formula == Formula::GroupNorms {
            return Err(Error::Argument(ArgumentError::NoProximalStep));
        }
        let _no_grad = tch::no_grad_guard();
        let factors = self.factors().map_err(Error::torch(OF_GROUPS))?;
        for part in self.parts.iter().filter(|part| part.tensor.requires_grad()) {
            let shrink = || {
                let value = &part.tensor;
                let shrunk = match (&factors, self.formula) {
                    (Some(factors), _) => {
                        let wide = value.f_to_kind(Kind::Double)?;
                        wide.f_div(&part.spread(factors)?.f_mul_scalar(t)?.f_add_scalar(1.)?)?
                    }
                    (None, Formula::Absolute) => {
                        value.f_sign()?.f_mul(&value.f_abs()?.f_sub_scalar(t)?.f_clamp_min(0.)?)?
                    }
                    (None, _) => value.f_div_scalar(1. + 2. * t)?,
                };
                value.shallow_clone().f_copy_(&shrunk)
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
        if let Formula::GroupNorms | Formula::GroupSquares = self.formula {
            let value = || {
                let squares = self.squares()?;
                let groups = match self.formula {
                    Formula::GroupNorms => squares.f_sqrt()?,
                    _ => squares,
                };
                groups.f_sum(Kind::Double)?.f_double_value(&[])
            };
            return value().map_err(Error::torch(OF_GROUPS));
        }
        self.parts.iter().try_fold(0., |sum, part| {
            let own = || {
                let wide = part.tensor.f_to_kind(Kind::Double)?;
                let values = match self.formula {
                    Formula::Absolute => wide.f_abs()?,
                    _ => wide.f_square()?,
                };
                values.f_sum(Kind::Double)?.f_double_value(&[])
            };
            Ok(sum + own().map_err(Error::torch(&part.path))?)
        })
    }

    /// For each group, the gradient of the penalty divided by the parameter, and 0 for channels
    /// that are not penalised: `[groups + 1]`. `None` for a penalty on γ alone.
    fn factors(&self) -> Result<Option<Tensor>, TchError> {
        let factors = match self.formula {
            Formula::Absolute | Formula::Squares => return Ok(None),
            // 1 / ‖w_g‖, and 0 where the norm is 0.
            Formula::GroupNorms => self.squares()?.f_rsqrt()?.f_nan_to_num(0., 0., 0.)?,
            Formula::GroupSquares => Tensor::f_full([self.groups], 2., self.options())?,
        };
        Ok(Some(Tensor::f_cat(&[factors, Tensor::f_zeros([1], self.options())?], 0)?))
    }

    /// Kind and device of what is computed for each group.
    fn options(&self) -> (Kind, Device) {
        (Kind::Double, self.parts.first().map_or(Device::Cpu, |part| part.tensor.device()))
    }

    /// `‖w_g‖²` of each group, `[groups]`.
    fn squares(&self) -> Result<Tensor, TchError> {
        let mut squares = Tensor::f_zeros([self.groups + 1], self.options())?;
        for part in &self.parts {
            part.add_squares(&mut squares)?;
        }
        squares.f_narrow(0, 0, self.groups)
    }
}

impl Plan {
    /// An L2 penalty on everything that goes with the channels that the plan removes:
    /// `s · Σ_g ‖w_g‖₂²` over these channel groups, where `w_g` is as in [`Penalty::GroupLasso`]. A
    /// weight of one removed group that another reads is in both, and counts twice.
    ///
    /// With a factor `s` that grows, it drives these channels to zero before they are cut, and the
    /// others take over what they did: growing regularisation (Wang et al., "Neural Pruning via
    /// Growing Regularization", ICLR 2021), which penalises the filters alone.
    ///
    /// ```
    /// use slim_runtime::{Prunable, Schedule, Slimming, model, nn};
    /// use tch::nn::{ModuleT, OptimizerConfig};
    /// # use tch::{Device, Kind, Tensor};
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
    /// let mut net = Net::new(vs.root());
    /// let mut optimizer = nn::Sgd::default().build(&vs, 0.1).unwrap();
    /// let plan = net.plan(&Slimming::ratio(0.5).criterion(slim_runtime::criterion::L1))?;
    /// let growing = plan.regulariser(&net)?;
    /// let before = growing.value()?;
    /// # let (images, labels) = (Tensor::randn([4, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::zeros([4], (Kind::Int64, Device::Cpu)));
    /// for step in 0..30 {
    ///     optimizer.zero_grad();
    ///     net.forward_t(&images, true).cross_entropy_for_logits(&labels).backward();
    ///     growing.add_gradient(Schedule::constant().ramp(20).at(step))?;
    ///     optimizer.step();
    /// }
    /// assert!(growing.value()? < before);
    /// net.apply(&plan)?;
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) and
    /// [`PlanError::Invalid`](crate::error::PlanError::Invalid) for a plan of another network;
    /// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune) when the
    /// plan removes no channel; those of [`trace`](crate::Prunable::trace).
    pub fn regulariser<M: Prunable + ?Sized>(&self, model: &M) -> Result<Regulariser> {
        let graph = analysis::trace(model, self.masking())?;
        surgery::check(&graph, self)?;
        let mut removed = HashSet::new();
        for (node, layer) in graph.layers.iter().zip(&self.layers) {
            for (axis, plan) in node.axes.iter().zip(&layer.axes) {
                let kept: HashSet<usize> = plan.keep.iter().collect();
                let gone = axis.ids.iter().enumerate().filter(|(at, _)| !kept.contains(at));
                removed.extend(gone.map(|(_, &id)| graph.channel_group(id)));
            }
        }
        let (parts, groups) = groups(&graph, |group| removed.contains(&group))?;
        let regulariser = Regulariser { formula: Formula::GroupSquares, parts, groups };
        regulariser.not_empty("the plan removes no channel; ask for more")
    }
}

fn check(factor: f64) -> Result<()> {
    if factor.is_finite() && factor >= 0. {
        Ok(())
    } else {
        Err(Error::Argument(ArgumentError::SparsityFactor(factor)))
    }
}
