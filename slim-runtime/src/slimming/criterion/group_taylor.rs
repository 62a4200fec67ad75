//! How much the loss changes when a whole channel group goes.

use tch::Tensor;

use super::{Candidate, Criterion};
use crate::Result;

/// First-order Taylor expansion of the loss when everything goes that makes or scales a channel and
/// the channels coupled with it: `(Σ parameter · gradient)²`, over the filters and biases of all
/// layers that make the group's channels, and over the γ and β behind them (Molchanov et al.,
/// "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8, for the parameters of
/// a group).
///
/// It is the squared derivative of the loss by one gate that multiplies all these parameters.
/// [`Taylor`](super::Taylor) squares the sum of each layer by itself, so changes that cancel in a
/// residual stream add up there. The weights by which other layers read the channels do not count:
/// once the channels are zero, they change nothing more.
///
/// Every layer that makes channels has the score of their groups, so the
/// [`Coupling`](crate::Coupling) that is the largest or the mean leaves it as it is. It reads the
/// gradients that `backward` left, as `Taylor` does. Take them in evaluation mode: in training mode
/// batch norms undo the size of a filter, and its sum is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupTaylor;

impl Criterion for GroupTaylor {
    fn name(&self) -> String {
        "group_taylor".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        if layer.scale().is_some() {
            return Ok(None);
        }
        let changes = layer.group_changes()?;
        changes.map(|changes| changes.f_square()).transpose().map_err(layer.error())
    }

    fn requirement(&self) -> Option<&'static str> {
        Some("it reads gradients, so call `backward` on a loss before planning")
    }
}
