//! Sensitivity: how much the network depends on the channels of each layer.

use std::fmt;
use std::iter::once;

use serde::{Deserialize, Serialize};

use super::sweep::Evaluation;
use super::{check_finite, check_groups, check_same, evaluated, finite};
use crate::error::{CheckError, SelectionError};
use crate::plan;
use crate::select::{self, Fingerprint, PerGroup};
use crate::slimming::{CoupledLayers, Scope, Slimming, Target};
use crate::surgery::ModelState;
use crate::table::{percent_asked, table};
use crate::{Error, Prunable, Result, analysis};

/// The value of a network, such as its accuracy, when a share of the channels of one layer alone is
/// [masked](Prunable::mask): for each group of layers whose channels stay or go together, and each
/// of some ratios.
///
/// A layer whose curve falls late can lose more than others. [`Search::suggested_by`] starts from
/// these curves. One evaluation is needed for each group and ratio, and one for the dense network.
/// What is measured is kept: save it with [`to_json`](Self::to_json), and continue with
/// [`resume`](Self::resume).
///
/// ```
/// # use slim_runtime::{Prunable, Sensitivity, Slimming};
/// # use tch::{Device, Kind, Tensor, nn::{self, ModuleT}};
/// # #[derive(Debug, Prunable)]
/// # #[prune(sequential)]
/// # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
/// # impl ModuleT for Net {
/// #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
/// #         xs.apply(&self.conv).apply_t(&self.bn, train).relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
/// #     }
/// # }
/// # let vs = nn::VarStore::new(Device::Cpu);
/// # let p = &vs.root();
/// # let mut net = Net {
/// #     conv: nn::conv2d(p / "conv", 3, 16, 3, Default::default()),
/// #     bn: nn::batch_norm2d(p / "bn", 16, Default::default()),
/// #     fc: nn::linear(p / "fc", 16, 4, Default::default()),
/// # };
/// # let (images, labels) = (Tensor::randn([32, 3, 8, 8], (Kind::Float, Device::Cpu)), Tensor::randint(4, [32], (Kind::Int64, Device::Cpu)));
/// let accuracy = |net: &Net| 100. * net.forward_t(&images, false).accuracy_for_logits(&labels).double_value(&[]);
/// let sensitivity = Sensitivity::measure(&mut net, &Slimming::ratio(0.5), [0.25, 0.5, 0.75], accuracy)?;
/// println!("{sensitivity}");
/// assert_eq!(sensitivity.groups()[0].group.layers, ["bn"]);
/// # assert!(sensitivity.is_complete());
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// [`Search::suggested_by`]: crate::Search::suggested_by
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Sensitivity {
    stored: Stored,
}

/// The curve of one group of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupSensitivity {
    /// The layers.
    #[serde(flatten)]
    pub group: CoupledLayers,
    /// By ratio: the value with that share of the group masked; `None` if it is not measured yet.
    pub values: Vec<Option<f64>>,
}

/// Version of the JSON.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    format: u32,
    slimming: Slimming,
    network: String,
    scores: String,
    ratios: Vec<f64>,
    dense: Option<f64>,
    groups: Vec<GroupSensitivity>,
}

impl Sensitivity {
    /// The usual ratios: 0.1, 0.2, … 0.9.
    pub const RATIOS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

    /// Measures everything: [`new`](Self::new), then [`resume`](Self::resume).
    ///
    /// # Errors
    /// Those of both.
    ///
    /// # Panics
    /// When `evaluate` panics. The model is restored here, too.
    pub fn measure<M: Prunable + ?Sized, E: Evaluation>(
        model: &mut M,
        slimming: &Slimming,
        ratios: impl IntoIterator<Item = f64>,
        evaluate: impl FnMut(&M) -> E,
    ) -> Result<Self, E::Error> {
        let mut sensitivity = Self::new(model, slimming, ratios)?;
        sensitivity.resume(model, evaluate)?;
        Ok(sensitivity)
    }

    /// The groups of the model, none of them measured yet. Of `slimming`, the criterion, the bounds
    /// and `keep` count, and the target does not. `ratios` are in `(0, 1)`, such as
    /// [`RATIOS`](Self::RATIOS).
    ///
    /// # Errors
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when a ratio is not in
    /// `(0, 1)`, `slimming` has targets for single layers, or two layers make channels of each
    /// other's groups, and those of [`Prunable::plan`].
    pub fn new<M: Prunable + ?Sized>(
        model: &M,
        slimming: &Slimming,
        ratios: impl IntoIterator<Item = f64>,
    ) -> Result<Self> {
        let mut ratios: Vec<f64> = ratios.into_iter().collect();
        if let Some(&ratio) = ratios.iter().find(|&&ratio| !(ratio > 0. && ratio < 1.)) {
            let reason =
                format!("the ratio {ratio} tells nothing; give shares above 0 and below 1");
            return Err(Error::Selection(SelectionError::Slimming { reason }));
        }
        ratios.sort_by(f64::total_cmp);
        ratios.dedup();
        if ratios.is_empty() {
            let reason = "there is no ratio to try; give some, such as `Sensitivity::RATIOS`";
            return Err(Error::Selection(SelectionError::NothingToPrune {
                reason: reason.to_owned(),
            }));
        }
        let graph = analysis::trace(model, slimming.zeroed())?;
        let per_group = PerGroup::new(&graph, slimming)?;
        let groups = per_group.groups().iter().map(|group| GroupSensitivity {
            group: group.clone(),
            values: vec![None; ratios.len()],
        });
        let Fingerprint { network, scores } = per_group.fingerprint();
        Ok(Self {
            stored: Stored {
                format: FORMAT,
                slimming: slimming.recorded(),
                network,
                scores,
                groups: groups.collect(),
                ratios,
                dense: None,
            },
        })
    }

    /// Measures what is not measured yet. `evaluate` returns a value of which more is better, such
    /// as an accuracy or a negative loss, in a unit of its choice, as for
    /// [`Sweep::run`](crate::Sweep::run).
    ///
    /// `evaluate` runs without gradients, and has to run forward passes in evaluation mode, with
    /// `train = false`, or to restore the statistics of batch norms, as
    /// [`recalibrated`](crate::recalibrated()) does. The model is restored afterwards, to the bit.
    /// After an error, values that were measured before it are kept.
    ///
    /// # Errors
    /// [`CheckError::Resume`](crate::error::CheckError::Resume) when the network or its scores are
    /// not those of the measurements so far, [`CheckError::Benchmark`] for a value that is not
    /// finite, [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode), those of
    /// [`Prunable::plan`] and [`Prunable::mask`], and those of `evaluate`.
    ///
    /// # Panics
    /// When `evaluate` panics. The model is restored here, too.
    pub fn resume<M: Prunable + ?Sized, E: Evaluation>(
        &mut self,
        model: &mut M,
        evaluate: impl FnMut(&M) -> E,
    ) -> Result<(), E::Error> {
        self.resume_with(model, evaluate, |_| Ok(()))
    }

    /// Like [`resume`](Self::resume), and calls `after` after each evaluation: to show progress, or
    /// to save what is measured. An error of `after` ends the measurement.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume) and of `after`.
    ///
    /// # Panics
    /// When `evaluate` or `after` panics. The model is restored here, too.
    pub fn resume_with<M: Prunable + ?Sized, E: Evaluation>(
        &mut self,
        model: &mut M,
        mut evaluate: impl FnMut(&M) -> E,
        mut after: impl FnMut(&Self) -> Result<(), E::Error>,
    ) -> Result<(), E::Error> {
        let graph = analysis::trace(model, self.stored.slimming.zeroed())?;
        // The user's own criterion, of which a file has only the name, fails here.
        let per_group = PerGroup::new(&graph, &self.stored.slimming)?;
        let groups = self.stored.groups.iter().map(|curve| &curve.group);
        check_same(&per_group, &self.stored.slimming, &self.fingerprint(), groups)?;
        while let Some(place) = self.next() {
            let (group, target) = match place {
                Place::Dense => (0, 0.),
                Place::Group(group, ratio) => (group, self.stored.ratios[ratio]),
            };
            // All groups have a target, since the pattern of one may match layers of another.
            let groups = self.stored.groups.iter().enumerate();
            let layers = groups.map(|(index, curve)| {
                let ratio = if index == group { target } else { 0. };
                (curve.group.pattern.clone(), Target::Ratio(ratio))
            });
            let layers = layers.collect();
            let alone = Slimming {
                target: Target::Ratio(0.),
                scope: Scope::Global,
                layers,
                ..self.stored.slimming.clone()
            };
            let mut plan = select::plan(&graph, &alone)?;
            if let Place::Dense = place {
                plan = plan::without_removals(&plan);
            }
            let value = evaluated(model, &plan, ModelState::Masked, &mut evaluate)?;
            let value = Some(finite(value)?);
            match place {
                Place::Dense => self.stored.dense = value,
                Place::Group(group, ratio) => self.stored.groups[group].values[ratio] = value,
            }
            after(self)?;
        }
        Ok(())
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

    /// The next value to measure.
    fn next(&self) -> Option<Place> {
        if self.stored.dense.is_none() {
            return Some(Place::Dense);
        }
        self.stored.groups.iter().enumerate().find_map(|(group, curve)| {
            let ratio = curve.values.iter().position(Option::is_none)?;
            Some(Place::Group(group, ratio))
        })
    }

    /// Checks that this is complete, and was measured on the network of a search, whose slimming
    /// may have another target.
    pub(super) fn check_against(
        &self,
        slimming: &Slimming,
        known: &Fingerprint,
        groups: &[CoupledLayers],
    ) -> Result<()> {
        let same_target =
            Slimming { target: self.stored.slimming.target.clone(), ..slimming.clone() };
        let own = self.fingerprint();
        let difference = if self.stored.slimming != same_target {
            "the sensitivity was measured with another slimming than that of the search"
        } else if own != *known || !self.groups().iter().map(|curve| &curve.group).eq(groups) {
            "the sensitivity was measured on another network, or on other weights"
        } else if !self.is_complete() {
            "the sensitivity is not complete"
        } else {
            return Ok(());
        };
        Err(Error::Check(CheckError::Resume { difference: difference.to_owned() }))
    }

    fn fingerprint(&self) -> Fingerprint {
        let Stored { network, scores, .. } = &self.stored;
        Fingerprint { network: network.clone(), scores: scores.clone() }
    }

    /// The value of the dense network; `None` if it is not measured yet.
    pub fn dense(&self) -> Option<f64> {
        self.stored.dense
    }

    /// The ratios, ascending.
    pub fn ratios(&self) -> &[f64] {
        &self.stored.ratios
    }

    /// The groups of layers, in the order of the data flow; before them, groups whose layers make
    /// channels of other groups, too.
    pub fn groups(&self) -> &[GroupSensitivity] {
        &self.stored.groups
    }

    /// The slimming, by whose criterion channels are masked.
    pub fn slimming(&self) -> &Slimming {
        &self.stored.slimming
    }

    /// Number of values that are measured.
    pub fn measured(&self) -> usize {
        self.values().flatten().count()
    }

    /// Number of values in all: one for each group and ratio, and the dense network's.
    pub fn evaluations(&self) -> usize {
        self.values().count()
    }

    /// Whether everything is measured.
    pub fn is_complete(&self) -> bool {
        self.next().is_none()
    }

    fn values(&self) -> impl Iterator<Item = Option<f64>> {
        let of_groups = self.stored.groups.iter().flat_map(|curve| curve.values.iter().copied());
        once(self.stored.dense).chain(of_groups)
    }

    /// Everything as indented JSON.
    ///
    /// # Errors
    /// None that is known: every value can be represented in JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| unreadable(&error))
    }

    /// Parses the output of [`to_json`](Self::to_json). The values are equal, to the last bit.
    ///
    /// # Errors
    /// [`CheckError::Measurements`](crate::error::CheckError::Measurements) when the text is not
    /// that, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| unreadable(&error))
    }
}

/// A value of the table.
#[derive(Debug, Clone, Copy)]
enum Place {
    Dense,
    /// A group and a ratio.
    Group(usize, usize),
}

pub(super) fn unreadable(error: &serde_json::Error) -> Error {
    Error::Check(CheckError::Measurements { reason: error.to_string() })
}

impl From<Sensitivity> for Stored {
    fn from(sensitivity: Sensitivity) -> Self {
        sensitivity.stored
    }
}

impl TryFrom<Stored> for Sensitivity {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored { format, slimming, ratios, groups, .. } = &stored;
        if *format != FORMAT {
            return Err(format!("format {format} is unknown, only {FORMAT} can be read"));
        }
        slimming.check().map_err(|error| error.to_string())?;
        let in_order = ratios.windows(2).all(|pair| pair[0] < pair[1]);
        if ratios.is_empty() || !in_order || ratios.iter().any(|&ratio| !(ratio > 0. && ratio < 1.))
        {
            return Err("its ratios are not ascending numbers between 0 and 1".to_owned());
        }
        check_groups(groups.iter().map(|curve| &curve.group))?;
        if let Some(curve) = groups.iter().find(|curve| curve.values.len() != ratios.len()) {
            let (name, values) = (curve.group.name(), curve.values.len());
            return Err(format!("`{name}` has {values} values for {} ratios", ratios.len()));
        }
        let sensitivity = Self { stored };
        check_finite(sensitivity.values().flatten())?;
        Ok(sensitivity)
    }
}

impl fmt::Display for Sensitivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
        };
        let header = ["layers".to_owned(), "channels".to_owned()];
        let header = header
            .into_iter()
            .chain(self.ratios().iter().map(|ratio| format!("−{}", percent_asked(*ratio))));
        let rows = self.groups().iter().map(|curve| {
            let name = [curve.group.name(), curve.group.removable.to_string()];
            name.into_iter().chain(curve.values.iter().map(value)).collect::<Vec<_>>()
        });
        let dense = value(&self.stored.dense);
        write!(f, "{}\ndense {dense}", table(header, 1, rows).trim_fmt())
    }
}
