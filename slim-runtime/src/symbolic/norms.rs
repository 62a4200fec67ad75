//! Norms over dimensions, with scales and shifts of the model.

use std::panic::Location;

use tch::Tensor;

use super::Traced;
use super::arguments::Ints;
use super::lift::{self, Join};
use super::pass::OneCall;
use super::reduce::hold_together;
use super::table::operations;
use super::traced::refused;
use crate::graph::shape::holds_channels;
use crate::graph::{Effect, Form, Operator, Tracer, arguments};
use crate::{Flow, Result};

operations! {
    "Reductions and norms" {
        "layer_norm", "group_norm", "instance_norm": "the channels whose statistics are taken together stay; weights follow the channels";
    }
}

impl Traced {
    /// Normalises over the last dimensions, then scales and shifts by tensors of the model.
    #[track_caller]
    pub fn layer_norm<W: AffineTensor>(
        &self,
        normalized_shape: impl Ints,
        weight: Option<W>,
        bias: Option<W>,
        eps: f64,
        _cudnn_enable: bool,
    ) -> Traced {
        let count = normalized_shape.ints().len();
        let given = [&weight, &bias].map(|tensor| tensor.as_ref().and_then(AffineTensor::real));
        let one = OneCall::begin();
        let normed = self.on_shape(Location::caller(), |cx, value, shape| {
            let dims: Vec<usize> = (shape.rank().saturating_sub(count)..shape.rank()).collect();
            if dims.iter().any(|&dim| holds_channels(&shape.dims()[dim])) {
                hold_together(cx, "layer_norm", value, &dims);
            }
            Ok(cx.operate(Operator::ungated("layer_norm"), &[value], Form::Dims(shape.clone())))
        });
        let normed = normed.scaled_and_shifted("layer_norm", weight, bias, None);
        drop(one);
        let [weight, bias] = given.each_ref().map(Option::as_ref);
        normed.called("layer_norm", arguments![self, count as i64, weight, bias, eps])
    }

    /// Normalises over groups of channels and all positions, then scales and shifts by tensors of
    /// the model.
    #[track_caller]
    pub fn group_norm<W: AffineTensor>(
        &self,
        num_groups: i64,
        weight: Option<W>,
        bias: Option<W>,
        eps: f64,
        _cudnn_enabled: bool,
    ) -> Traced {
        let given = [&weight, &bias].map(|tensor| tensor.as_ref().and_then(AffineTensor::real));
        let one = OneCall::begin();
        let normed = self.on_shape(Location::caller(), |cx, value, shape| {
            cx.numbers = vec![num_groups as f64];
            hold_together(cx, "group_norm", value, &[1]);
            Ok(cx.operate(Operator::ungated("group_norm"), &[value], Form::Dims(shape.clone())))
        });
        let normed = normed.scaled_and_shifted("group_norm", weight, bias, Some(1));
        drop(one);
        let [weight, bias] = given.each_ref().map(Option::as_ref);
        normed.called("group_norm", arguments![self, num_groups, weight, bias, eps])
    }

    /// Normalises each channel of each sample over its positions, then scales and shifts by tensors
    /// of the model.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn instance_norm<W: AffineTensor>(
        &self,
        weight: Option<W>,
        bias: Option<W>,
        running_mean: Option<W>,
        running_var: Option<W>,
        _use_input_stats: bool,
        _momentum: f64,
        eps: f64,
        _cudnn_enabled: bool,
    ) -> Traced {
        let given = [&weight, &bias].map(|tensor| tensor.as_ref().and_then(AffineTensor::real));
        let one = OneCall::begin();
        let normed = self.on_shape(Location::caller(), |cx, value, shape| {
            if running_mean.is_some() || running_var.is_some() {
                return Err(refused(cx, "`instance_norm` with running statistics, which are not zero where a channel is gone; give it none".to_owned()));
            }
            let operator = Operator::each("instance_norm", Effect::ZeroOnly);
            Ok(cx.operate(operator, &[value], Form::Dims(shape.clone())))
        });
        let normed = normed.scaled_and_shifted("instance_norm", weight, bias, Some(1));
        drop(one);
        let [weight, bias] = given.each_ref().map(Option::as_ref);
        normed.called("instance_norm", arguments![self, weight, bias, eps])
    }

    /// Scales and shifts by real tensors that follow dimension `dim`, or the last dimensions if it
    /// is `None`.
    #[track_caller]
    fn scaled_and_shifted<W: AffineTensor>(
        &self,
        name: &'static str,
        weight: Option<W>,
        bias: Option<W>,
        dim: Option<usize>,
    ) -> Traced {
        let at = Location::caller();
        let placed = |tensor: &Tensor, rank: usize| -> Result<Tensor> {
            let Some(dim) = dim else { return Ok(tensor.shallow_clone()) };
            let mut sizes = vec![1; rank - dim];
            sizes[0] = -1;
            tensor.f_view(&sizes[..]).map_err(crate::Error::torch(name))
        };
        let mut xs = self.shallow_clone();
        for (tensor, join) in [(weight, Join::Scale), (bias, Join::Shift)] {
            let Some(tensor) = tensor else { continue };
            xs = xs.on_flow(at, |cx, flow: &Flow| {
                let tensor = real(cx, name, &tensor)?;
                let value = cx.channels(flow, None)?;
                let (_, shape) = super::traced::shaped(cx, &value, None);
                let tensor = placed(&tensor, shape.rank())?;
                lift::joined(cx, name, flow, &tensor, join)
            });
        }
        xs
    }
}

/// A tensor that scales or shifts a norm's output. It must be a real one.
pub trait AffineTensor {
    /// The tensor; `None` for a symbolic one.
    fn real(&self) -> Option<Tensor>;
}

/// A real tensor that scales or shifts.
///
/// # Errors
/// [`WiringError::Layer`](crate::error::WiringError::Layer) for a symbolic one.
pub(super) fn real(cx: &Tracer, name: &str, tensor: &impl AffineTensor) -> Result<Tensor> {
    tensor.real().ok_or_else(|| {
        refused(
            cx,
            format!(
                "`{name}` by a tensor that `forward` computes; multiply and add it behind `{name}`"
            ),
        )
    })
}

impl AffineTensor for Tensor {
    fn real(&self) -> Option<Tensor> {
        Some(self.shallow_clone())
    }
}

impl AffineTensor for &Tensor {
    fn real(&self) -> Option<Tensor> {
        Some(self.shallow_clone())
    }
}

impl AffineTensor for Traced {
    fn real(&self) -> Option<Tensor> {
        None
    }
}

impl AffineTensor for &Traced {
    fn real(&self) -> Option<Tensor> {
        None
    }
}
