//! Composes successive plans: which channels of the original network are left.

use serde::{Deserialize, Serialize};

use super::{AxisPlan, LayerPlan, OWN, Plan, Scored, TensorPlan, outline};
use crate::error::PlanError;
use crate::graph::KeepList;
use crate::slimming::Slimming;
use crate::{Error, Result};

/// An earlier slimming that a composed [`Plan`] contains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pass {
    /// The slimming that was asked for.
    pub slimming: Slimming,
    /// A channel stayed when its score was above this threshold. `None` when nothing was to be
    /// removed.
    pub threshold: Option<f64>,
}

impl Plan {
    /// Composes this plan with a `later` one: the plan from the original network to the network
    /// that was slimmed twice.
    ///
    /// Applied to a replica of the original network, the composed plan gives the same result, to
    /// the bit, as the two plans one after the other, unless one of them [absorbs](crate::Absorb):
    /// a composed plan does not absorb. Positions refer to the original channels:
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Slimming};
    /// # use tch::nn;
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
    /// # let vs = nn::VarStore::new(tch::Device::Cpu);
    /// # let p = &vs.root();
    /// # let mut net = Net {
    /// #     conv: nn::conv2d(p / "conv", 3, 8, 3, Default::default()),
    /// #     bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
    /// # };
    /// # let scales = tch::Tensor::from_slice(&[0.1_f32, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]);
    /// # tch::no_grad(|| net.bn.ws.as_mut().unwrap().copy_(&scales));
    /// let first = net.slim(0.5)?; // of 8 channels 1, 3 and 5 stay
    /// let second = net.slim(0.1)?; // of those, the first two
    /// assert_eq!(second.plan().original_channels("conv").unwrap().to_string(), "0-1");
    ///
    /// let both = first.plan().then(second.plan())?;
    /// assert_eq!(both.original_channels("conv").unwrap().to_string(), "1,3");
    /// assert_eq!((both.channels().before, both.channels().after), (8, 2));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// [`slimming`](Self::slimming) and [`threshold`](Self::threshold) are the later plan's;
    /// [`passes`](Self::passes) has those of the earlier plan.
    ///
    /// # Errors
    /// [`PlanError::Sequence`](crate::error::PlanError::Sequence) with the first difference when
    /// the later plan was not made for the network that this plan leaves.
    pub fn then(&self, later: &Plan) -> Result<Plan> {
        let names = ["what the earlier plan leaves", "the later plan"];
        if let Some(difference) =
            outline::difference(&self.outlines_after(), &later.outlines_before(), names)
        {
            return Err(Error::Plan(PlanError::Sequence { difference }));
        }
        let layers =
            self.layers.iter().zip(&later.layers).map(|(layer, later)| layer.then(later)).collect();
        let Plan { format, slimming, threshold, mut passes, .. } = self.clone();
        passes.push(Pass { slimming, threshold });
        passes.extend(later.passes.iter().cloned());
        let Plan { slimming, threshold, warnings, .. } = later.clone();
        let mut declared = self.declared.clone();
        declared
            .extend(later.declared.iter().filter(|name| !self.declared.contains(name)).cloned());
        let plan = Plan { format, slimming, threshold, passes, layers, ..later.clone() };
        Ok(plan.warned(warnings).declared_by(declared))
    }

    /// The slimmings before the last, in order; empty unless the plan was composed by
    /// [`then`](Self::then).
    pub fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// The original channels that a layer keeps in the slimmed network: its output channels if it
    /// makes any, or else the channels that pass through it.
    ///
    /// After several slimmings, only the plan that [`then`](Self::then) composes refers to the
    /// original network. [`LayerPlan::axis`] gives the kept channels of any other axis of the
    /// layer.
    pub fn original_channels(&self, path: &str) -> Option<&KeepList> {
        let layer = self.layer(path)?;
        let named = OWN.into_iter().find_map(|name| layer.axis(name));
        named.or(layer.axes.first()).map(|axis| &axis.keep)
    }

    /// The plan for the slimmed network that removes nothing.
    pub(crate) fn keeping_what_is_left(&self) -> Plan {
        let mut plan = self.clone();
        for axis in plan.layers.iter_mut().flat_map(|layer| &mut layer.axes) {
            axis.width = axis.keep.len();
            axis.keep = KeepList::all(axis.width);
        }
        plan
    }
}

impl LayerPlan {
    /// Composes two plans of one layer. The reasons for held channels are the earlier plan's, which
    /// is about the original network.
    fn then(&self, later: &LayerPlan) -> LayerPlan {
        let axes = self
            .axes
            .iter()
            .zip(&later.axes)
            .map(|(axis, later)| AxisPlan { keep: axis.keep.then(&later.keep), ..axis.clone() });
        let tensors = self.tensors.iter().zip(&later.tensors).map(|(tensor, later)| TensorPlan {
            variable: tensor.variable.clone().or_else(|| later.variable.clone()),
            ..tensor.clone()
        });
        let axes: Vec<_> = axes.collect();
        let scored = self.scored.clone().map(|scored| {
            // The later pass may have removed channels that the earlier pass held.
            let axis = axes.iter().find(|axis| axis.name == scored.axis);
            let removed = axis.map_or(0, |axis| axis.width - axis.keep.len());
            Scored {
                removable: scored.removable.max(removed),
                threshold: None,
                class: None,
                bounded: None,
                ..scored
            }
        });
        LayerPlan { axes, tensors: tensors.collect(), scored, ..self.clone() }
    }
}
