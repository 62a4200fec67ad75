//! Names: which variable of a store a layer's tensor is.

use std::collections::{BTreeMap, HashMap};

use tch::Tensor;
use tch::nn::VarStore;

use super::Plan;
use crate::graph::{Memory, memory};
use crate::{Error, Prunable, Result, planner, surgery};

/// The names of a store's variables, by where their values are.
pub(crate) struct Variables {
    names: HashMap<Memory, String>,
}

impl Variables {
    pub(crate) fn new(vs: &VarStore) -> Self {
        let sorted: BTreeMap<_, _> = vs.variables().into_iter().collect();
        // Of several names for one tensor, the first.
        let names = sorted
            .into_iter()
            .rev()
            .filter_map(|(name, variable)| Some((memory(&variable)?, name)))
            .collect();
        Self { names }
    }

    pub(crate) fn name(&self, tensor: &Tensor) -> Option<&str> {
        self.names.get(&memory(tensor)?).map(String::as_str)
    }

    /// The name of a layer's tensor.
    ///
    /// # Errors
    /// [`Error::NotInStore`].
    pub(crate) fn require(&self, path: &str, tensor: &str, handle: &Tensor) -> Result<&str> {
        self.name(handle)
            .ok_or_else(|| Error::NotInStore { path: path.to_owned(), tensor: tensor.to_owned() })
    }
}

impl Plan {
    /// Every tensor of the plan: its field path, and its name in the variable store, where the plan carries names (see [`with_variables`](Self::with_variables)).
    ///
    /// The two are often alike; a network with PyTorch's names has a field `features[0].conv` whose variable is `features.0.0.weight`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let tensors = self
            .layers
            .iter()
            .flat_map(|layer| layer.tensors.iter().map(move |tensor| (layer, tensor)));
        tensors.map(|(layer, tensor)| {
            (format!("{}.{}", layer.path, tensor.name), tensor.variable.as_deref())
        })
    }

    /// The plan with the names that the store has for the model's tensors, for [`tensors`](Self::tensors) and for `plan.json`. The model may be slimmed yet or not.
    ///
    /// Names say nothing of what stays: plans are equal, and apply, whatever names they carry.
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Slimming};
    /// # use tch::nn;
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
    /// # let vs = nn::VarStore::new(tch::Device::Cpu);
    /// # let p = &vs.root();
    /// # let net = Net {
    /// #     conv: nn::conv2d(p / "features" / 0, 3, 8, 3, Default::default()),
    /// #     bn: nn::batch_norm2d(p / "features" / 1, 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
    /// # };
    /// let plan = net.plan(&Slimming::ratio(0.5))?.with_variables(&net, &vs)?;
    /// assert_eq!(plan.tensors().next(), Some(("conv.weight".to_owned(), Some("features.0.weight"))));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::PlanMismatch`] when the plan is another network's; those of [`Prunable::trace`].
    pub fn with_variables<M: Prunable + ?Sized>(&self, model: &M, vs: &VarStore) -> Result<Plan> {
        let graph = planner::trace(model, self.masking())?;
        surgery::fit(&graph, self)
            .map_err(|misfit| Error::PlanMismatch { difference: misfit.dense })?;
        let variables = Variables::new(vs);
        let mut plan = self.clone();
        for (layer, node) in plan.layers.iter_mut().zip(&graph.layers) {
            for (tensor, bound) in layer.tensors.iter_mut().zip(&node.tensors) {
                tensor.variable = variables.name(&bound.tensor).map(str::to_owned);
            }
        }
        Ok(plan)
    }
}

impl PartialEq for super::TensorPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.dims, self.role, &self.tied)
            == (&other.name, &other.dims, other.role, &other.tied)
    }
}
