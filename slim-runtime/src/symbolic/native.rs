//! Functions that do something else in a symbolic pass than with real tensors.

use std::panic::Location;

use tch::Tensor;

use super::Traced;
use super::traced::refused;
use crate::graph::shape::{Factor, Shape, is_assumed, size};
use crate::graph::{Effect, Form, Operator, arguments};

/// A real or a symbolic tensor, for the functions of [`functional`](crate::functional) that reuse a
/// real tensor's memory, or that state its size.
#[diagnostic::on_unimplemented(
    message = "expected a tensor, found `{Self}`",
    label = "not a tensor"
)]
#[doc(hidden)]
pub trait Native: Sized {
    #[track_caller]
    fn sum_into(self, other: &Self) -> Self;

    #[track_caller]
    fn relu_into(self) -> Self;

    #[track_caller]
    fn flatten_positions(&self, positions: i64) -> Self;
}

impl Native for Tensor {
    fn sum_into(mut self, other: &Self) -> Self {
        let fits = self.size() == other.size() && self.kind() == other.kind();
        if fits { self.g_add_(other) } else { self + other }
    }

    fn relu_into(mut self) -> Self {
        self.relu_()
    }

    fn flatten_positions(&self, _positions: i64) -> Self {
        self.flatten(1, -1)
    }
}

impl Native for Traced {
    #[track_caller]
    fn sum_into(self, other: &Self) -> Self {
        self + other
    }

    #[track_caller]
    fn relu_into(self) -> Self {
        self.relu()
    }

    #[track_caller]
    fn flatten_positions(&self, positions: i64) -> Self {
        self.on_shape(Location::caller(), |cx, value, shape| {
            let dims = shape.dims();
            let (Some(1), Some(channels)) = (shape.channel_dim(), dims.get(1)) else {
                let shape = shape.describe();
                return Err(refused(cx, format!("`flatten` of {shape}: it takes [N, C, …]")));
            };
            let found: i64 = dims[2..].iter().map(|dim| size(dim)).product();
            let is_known = !dims[2..].iter().any(|dim| is_assumed(dim));
            if positions < 1 || (is_known && found != positions) {
                let shape = shape.describe();
                let reason =
                    format!("`flatten({positions})` of {shape}, which has {found} positions");
                return Err(refused(cx, reason));
            }
            let features = [&channels[..], &[Factor::exact(positions)]].concat();
            let form = Form::Dims(Shape::new([dims[0].clone(), features.into()]));
            Ok(cx.operate(Operator::each("flatten", Effect::Keep), &[value], form))
        })
        .called("flatten", arguments![self, 1, -1])
    }
}
