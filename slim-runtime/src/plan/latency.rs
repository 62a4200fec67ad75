//! The predicted latency of a network before and after a plan.

use super::{Change, Plan, TensorPlan};
use crate::analysis::latency::LayerLatencies;
use crate::error::PlanError;
use crate::graph::LayerKind;
use crate::plan::LayerPlan;
use crate::{Error, Result};

impl Plan {
    /// The predicted time of a pass, in nanoseconds: the sum over the layers.
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the times are those of
    /// another network.
    pub(crate) fn latency(&self, latencies: &LayerLatencies) -> Result<Change> {
        let mismatch = |difference| Err(Error::Plan(PlanError::Mismatch { difference }));
        let mut sum = Change { before: 0, after: 0 };
        let mut strangers: Vec<&str> = latencies.layers.keys().map(String::as_str).collect();
        for layer in &self.layers {
            let mut own = layer.tensors.iter().filter(|tensor| tensor.tied.is_none()).peekable();
            // A shared weight has its times where it is used first.
            let is_shared = layer.tensors.iter().any(|tensor| tensor.tied.is_some());
            let mut is_timed = is_shared || own.peek().is_none() || !has_times(&layer.kind);
            for tensor in own {
                let path = format!("{}.{}", layer.path, tensor.name);
                if !latencies.layers.contains_key(&path) {
                    continue;
                }
                is_timed = true;
                strangers.retain(|stranger| *stranger != path);
                let [before, after] = widths(layer, tensor);
                if !latencies.has(&path, before) {
                    return mismatch(format!(
                        "the plan has `{path}` with the shape {:?}, at which the latency table has no times",
                        layer.shape_before(tensor)
                    ));
                }
                let time = |widths| i64::try_from(latencies.of(&path, widths)).unwrap_or(i64::MAX);
                sum = sum.plus(time(before), time(after));
            }
            if !is_timed {
                return mismatch(format!(
                    "the plan has `{}` ({}), of which the latency table has no times",
                    layer.path, layer.kind
                ));
            }
        }
        match strangers.first() {
            Some(stranger) => mismatch(format!(
                "the latency table has times of `{stranger}`, which the plan lacks"
            )),
            None => Ok(sum),
        }
    }
}

fn has_times(kind: &LayerKind) -> bool {
    matches!(
        kind,
        LayerKind::Conv | LayerKind::ConvTranspose | LayerKind::Linear | LayerKind::BatchNorm
    )
}

/// The first two dimensions of a tensor before and after the plan.
fn widths(layer: &LayerPlan, tensor: &TensorPlan) -> [[u64; 2]; 2] {
    [layer.shape_before(tensor), layer.shape_after(tensor)].map(first_two)
}

fn first_two(shape: Vec<i64>) -> [u64; 2] {
    [0, 1].map(|dim| shape.get(dim).copied().unwrap_or(1).unsigned_abs())
}
