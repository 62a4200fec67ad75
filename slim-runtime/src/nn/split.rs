//! A split with stored sizes.

use tch::Tensor;

use crate::graph::arguments;
use crate::symbolic::{Traced, ViewOf};
use crate::{Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer};

/// Splits `[N, C, …]` along the channels into parts of stored sizes. Slimming updates the sizes, so
/// each part can lose other channels. `chunk` cuts into equal parts, which must all lose the same
/// channels.
///
/// Its flow is a tuple: `split.0`, `split.1`, … in the derive's expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    sizes: Vec<i64>,
}

/// A split into parts of these sizes, in channels.
pub fn split(sizes: impl Into<Vec<i64>>) -> Split {
    Split { sizes: sizes.into() }
}

impl Split {
    /// Number of channels of each part.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    /// The parts of `xs`, `[N, size, …]` each.
    ///
    /// # Panics
    /// As in tch: when the sizes do not sum to the channels of `xs`.
    pub fn forward(&self, xs: &Tensor) -> Vec<Tensor> {
        xs.split_with_sizes(self.sizes.as_slice(), 1)
    }
}

impl Prunable for Split {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        if self.sizes.iter().any(|&size| size < 0) {
            return Err(cx.layer_error(format!("a part has a negative size: {:?}", self.sizes)));
        }
        let mut layer = cx.layer(LayerKind::Split);
        let all = layer.follow("in", &input, self.sizes.iter().sum())?;
        let mut start = 0;
        let parts = self.sizes.iter().enumerate().map(|(i, &size)| {
            let end = start + usize::try_from(size).unwrap_or(0);
            layer.select(i.to_string(), all, std::mem::replace(&mut start, end)..end)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        layer.sizes("sizes", &parts)?;
        parts
            .into_iter()
            .map(|part| layer.move_on(part))
            .collect::<Result<Vec<_>>>()
            .map(Flow::tuple)
            .inspect(|parts| {
                cx.call("split_with_sizes", arguments![&input, &self.sizes, 1], parts);
            })
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.sizes("sizes", &mut self.sizes)
    }
}

impl Split {
    /// `split.forward(&xs)` in a symbolic pass.
    #[doc(hidden)]
    #[track_caller]
    pub fn symbolic_forward_(&self, xs: &Traced) -> Vec<Traced> {
        let parts = xs.apply_to_several(self, self.sizes().len());
        parts.into_iter().map(|part| xs.viewed(part, ViewOf::Some)).collect()
    }
}
