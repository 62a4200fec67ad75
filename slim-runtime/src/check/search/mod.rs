//! The search for the ratio of each layer that keeps a network best within a budget.

mod breed;
mod repair;
mod report;
mod stored;

use super::sensitivity::{Sensitivity, unreadable};
use super::sweep::Evaluation;
use super::{check_same, evaluated, finite};
use crate::error::CheckError;
use crate::select::{self, Fingerprint, PerGroup};
use crate::slimming::{CoupledLayers, Slimming};
use crate::surgery::ModelState;
use crate::{Error, Prunable, Result, analysis};
use serde::{Deserialize, Serialize};
use stored::{FORMAT, Stored};

/// An evolutionary search for the ratio of each layer: the ratios that keep a measured value, such
/// as an accuracy, highest within a budget of parameters, multiply-accumulates or latency.
///
/// An individual is a number of channels to remove for each group of layers whose channels stay or
/// go together; which channels of a group go, the criterion of the slimming decides. The first
/// generation has the ratios of the slimming's own global ranking, one ratio for all, those that a
/// [`Sensitivity`] suggests, and mutations of them. In each generation the best quarter survives,
/// and its offspring (uniform crossover, mutation of some groups) replaces the others. Every
/// individual is repaired until it just meets the budget. The result is never worse than the best
/// individual of the first generation. (Evolution of per-layer ratios as in Liu et al.,
/// "MetaPruning", ICCV 2019, <https://arxiv.org/abs/1903.10258>, without its meta network.)
///
/// The whole state, generator included, is in the object: save it with [`to_json`](Self::to_json),
/// also in the middle of a generation, and go on later. If the measure is deterministic, the search
/// finds the same to the bit as one that was not interrupted.
///
/// ```
/// # use slim_runtime::{Prunable, Search, Slimming};
/// # use tch::{Device, Kind, Tensor, nn::{self, ModuleT}};
/// # #[derive(Debug, Prunable)]
/// # #[prune(sequential)]
/// # struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
/// # impl ModuleT for Net {
/// #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
/// #         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu().apply(&self.conv2).apply_t(&self.bn2, train).relu();
/// #         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
/// #     }
/// # }
/// # let vs = nn::VarStore::new(Device::Cpu);
/// # let p = &vs.root();
/// # let mut net = Net {
/// #     conv1: nn::conv2d(p / "conv1", 3, 16, 3, Default::default()),
/// #     bn1: nn::batch_norm2d(p / "bn1", 16, Default::default()),
/// #     conv2: nn::conv2d(p / "conv2", 16, 16, 3, Default::default()),
/// #     bn2: nn::batch_norm2d(p / "bn2", 16, Default::default()),
/// #     fc: nn::linear(p / "fc", 16, 4, Default::default()),
/// # };
/// # let (images, labels) = (Tensor::randn([32, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::randint(4, [32], (Kind::Int64, Device::Cpu)));
/// let accuracy = |net: &Net| 100. * net.forward_t(&images, false).accuracy_for_logits(&labels).double_value(&[]);
/// // What would be asked for without a search: half of the parameters.
/// let mut search = Search::new(&net, &Slimming::params(0.5))?.population(6).seed(7);
/// search.run(&mut net, 2, accuracy)?;
/// let saved = search.to_json()?;
///
/// let mut search = Search::from_json(&saved)?;
/// search.run(&mut net, 3, accuracy)?; // a third generation
/// println!("{search}");
/// if let Some(found) = search.found() {
///     let plan = net.plan(&found)?;
///     assert!(2 * plan.parameters().after <= plan.parameters().before);
/// }
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Search {
    stored: Stored,
}

/// Ratios that a [`Search`] tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Individual {
    /// By [group](Search::groups): number of channels that are asked to go.
    pub removed: Vec<usize>,
    /// The measured value; `None` if it is not measured yet.
    pub value: Option<f64>,
}

impl Search {
    /// A search for this model. The target of `slimming` is the budget: [`Slimming::params`],
    /// [`Slimming::macs`] or [`Slimming::latency`]. Its criterion, its bounds, `keep` and `absorb`
    /// hold for every individual. Measures nothing yet.
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when the target is no
    /// budget, single layers have targets, or two layers make channels of each other's groups;
    /// [`SelectionError::OutOfReach`](crate::error::SelectionError::OutOfReach), and the other
    /// errors of [`Prunable::plan`].
    pub fn new<M: Prunable + ?Sized>(model: &M, slimming: &Slimming) -> Result<Self> {
        let graph = analysis::trace(model, slimming.zeroed())?;
        let per_group = PerGroup::new(&graph, slimming)?;
        per_group.most()?;
        let Fingerprint { network, scores } = per_group.fingerprint();
        Ok(Self {
            stored: Stored {
                format: FORMAT,
                slimming: per_group.slimming().clone(),
                network,
                scores,
                groups: per_group.groups().to_vec(),
                size: 16,
                generator: 0,
                suggested: Vec::new(),
                generation: 0,
                population: Vec::new(),
                history: Vec::new(),
                evaluations: 0,
            },
        })
    }

    /// Sets the number of individuals, 16 by default, at least 2. A generation evaluates those that
    /// are new: three quarters. No effect on a search that has begun.
    #[must_use]
    pub fn population(mut self, individuals: usize) -> Self {
        if self.stored.population.is_empty() {
            self.stored.size = individuals.clamp(2, stored::MOST_INDIVIDUALS);
        }
        self
    }

    /// Seeds the random numbers, with 0 by default. No effect on a search that has begun.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        if self.stored.population.is_empty() {
            self.stored.generator = seed;
        }
        self
    }

    /// Adds to the first generation the ratios at which each group loses at most a certain value by
    /// itself, the same for all groups: the smallest loss whose ratios meet the budget. No effect
    /// on a search that has begun.
    ///
    /// # Errors
    /// [`CheckError::Resume`](crate::error::CheckError::Resume) when `sensitivity` was measured on
    /// another network or is not complete. Its slimming may have another target than the search.
    pub fn suggested_by(mut self, sensitivity: &Sensitivity) -> Result<Self> {
        let Stored { slimming, network, scores, groups, .. } = &self.stored;
        let measured = Fingerprint { network: network.clone(), scores: scores.clone() };
        sensitivity.check_against(slimming, &measured, groups)?;
        if self.stored.population.is_empty() {
            self.stored.suggested = breed::tolerated(sensitivity);
        }
        Ok(self)
    }

    /// Gives the criterion back, after [`from_json`](Self::from_json): files have only its name,
    /// which is not enough for a criterion of one's own, or one with recorded activations. A
    /// slimming with another criterion has no effect.
    #[must_use]
    pub fn ranked_by(mut self, slimming: &Slimming) -> Self {
        if self.stored.slimming.criterion == slimming.criterion {
            self.stored.slimming.criterion = slimming.criterion.clone();
        }
        self
    }

    /// Searches until `generations` generations after the first are complete, in total: running 2
    /// and then 5 is running 5 at once. `measure` returns the value of a slimmed network, of which
    /// more is better, such as an accuracy or a negative loss, as for
    /// [`Sweep::run`](crate::Sweep::run).
    ///
    /// `measure` runs without gradients, and has to run forward passes in evaluation mode, with
    /// `train = false`, or to restore the statistics of batch norms, as
    /// [`recalibrated`](crate::recalibrated()) does. The model is restored afterwards, to the bit.
    /// After an error, everything that was measured before it is kept, and `run` goes on from
    /// there.
    ///
    /// # Errors
    /// [`CheckError::Resume`](crate::error::CheckError::Resume) when the network or its scores are
    /// not those of the search so far (weights that no score reads are not compared),
    /// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for a value that is not
    /// finite,
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode), those of
    /// [`Prunable::plan`] and [`Prunable::apply`], and those of `measure`.
    ///
    /// # Panics
    /// When `measure` panics. The model is restored here, too.
    pub fn run<M: Prunable + ?Sized, E: Evaluation>(
        &mut self,
        model: &mut M,
        generations: usize,
        measure: impl FnMut(&M) -> E,
    ) -> Result<(), E::Error> {
        self.run_with(model, generations, measure, |_| Ok(()))
    }

    /// Like [`run`](Self::run), and calls `after` after each evaluation: to show progress, or to
    /// save the search. An error of `after` ends the search, which can go on from there.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) and of `after`.
    ///
    /// # Panics
    /// When `measure` or `after` panics. The model is restored here, too.
    pub fn run_with<M: Prunable + ?Sized, E: Evaluation>(
        &mut self,
        model: &mut M,
        generations: usize,
        mut measure: impl FnMut(&M) -> E,
        mut after: impl FnMut(&Self) -> Result<(), E::Error>,
    ) -> Result<(), E::Error> {
        let graph = analysis::trace(model, self.stored.slimming.zeroed())?;
        let per_group = PerGroup::new(&graph, &self.stored.slimming)?;
        let Stored { slimming, network, scores, groups, .. } = &self.stored;
        let known = Fingerprint { network: network.clone(), scores: scores.clone() };
        check_same(&per_group, slimming, &known, groups.iter())?;
        if self.stored.population.is_empty() {
            breed::begin(&mut self.stored, &per_group)?;
        }
        let most = per_group.most()?;
        if self.stored.population.iter().any(|one| per_group.cost(&one.removed) > most) {
            let difference = "an individual is above the budget".to_owned();
            return Err(Error::Check(CheckError::Resume { difference }).into());
        }
        loop {
            if let Some(next) = self.next() {
                let plan = select::plan(&graph, &self.slimming_of(&self.stored.population[next]))?;
                let value = evaluated(model, &plan, ModelState::Slimmed, &mut measure)?;
                self.stored.population[next].value = Some(finite(value)?);
                self.stored.evaluations = self.stored.evaluations.saturating_add(1);
            } else if self.stored.history.len() > generations {
                return Ok(());
            } else {
                breed::next_generation(&mut self.stored, &per_group)?;
            }
            if self.next().is_none() {
                self.stored.complete_generation();
            }
            after(self)?;
        }
    }

    /// The next individual to measure.
    fn next(&self) -> Option<usize> {
        self.stored.population.iter().position(|individual| individual.value.is_none())
    }

    /// The best individual that is measured, the first of equal ones.
    pub fn best(&self) -> Option<&Individual> {
        let measured =
            self.stored.population.iter().filter_map(|one| one.value.map(|value| (one, value)));
        let best = measured.reduce(|best, one| if one.1 > best.1 { one } else { best });
        best.map(|(individual, _)| individual)
    }

    /// The slimming of the best individual: a ratio for each group of layers, by path. `None`
    /// before anything is measured.
    pub fn found(&self) -> Option<Slimming> {
        self.best().map(|best| self.slimming_of(best))
    }

    /// The slimming of an individual of this search.
    pub fn slimming_of(&self, individual: &Individual) -> Slimming {
        self.stored.slimming.of_groups(&self.stored.groups, &individual.removed)
    }

    /// The slimming whose target is the budget.
    pub fn slimming(&self) -> &Slimming {
        &self.stored.slimming
    }

    /// The groups of layers that have a ratio each.
    pub fn groups(&self) -> &[CoupledLayers] {
        &self.stored.groups
    }

    /// The individuals of the current generation; empty before [`run`](Self::run).
    pub fn individuals(&self) -> &[Individual] {
        &self.stored.population
    }

    /// The best value after each complete generation. The first is that of the starting ratios.
    pub fn history(&self) -> &[f64] {
        &self.stored.history
    }

    /// Number of evaluations so far.
    pub fn evaluations(&self) -> usize {
        self.stored.evaluations
    }

    /// The whole state as indented JSON.
    ///
    /// # Errors
    /// None that is known: every value can be represented in JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| unreadable(&error))
    }

    /// Parses the output of [`to_json`](Self::to_json). The search is equal, to the last bit of its
    /// values.
    ///
    /// # Errors
    /// [`CheckError::Measurements`](crate::error::CheckError::Measurements) when the text is not
    /// that, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| unreadable(&error))
    }
}
