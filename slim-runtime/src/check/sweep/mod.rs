//! Sweeps: the accuracy of a network at several amounts of slimming.

mod report;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

use super::evaluated;
use crate::error::SelectionError;
use crate::plan::{self, Plan};
use crate::slimming::Slimming;
use crate::surgery::ModelState;
use crate::table::percent_asked;
use crate::{Error, Prunable, Result};

/// Measures the accuracy of a network slimmed in several ways. The network itself does not change.
///
/// ```
/// # use slim_runtime::{Prunable, Sweep};
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
/// let swept = Sweep::ratios([0.2, 0.4, 0.6, 0.8]).progress().run(&mut net, accuracy)?;
/// println!("{swept}");
///
/// // The smallest network that is at most half a point less accurate than the dense one.
/// if let Some(point) = swept.most_within(0.5) {
///     net.apply(&point.plan)?;
/// }
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[must_use = "nothing is measured before `run`"]
pub struct Sweep<'a> {
    slimmings: Vec<(String, Slimming)>,
    macs: Option<Box<CountMacs<'a>>>,
    progress: bool,
}

type CountMacs<'a> = dyn Fn(&Plan) -> Result<i64> + 'a;

impl<'a> Sweep<'a> {
    /// [`Slimming::ratio`] at each of these ratios.
    pub fn ratios(ratios: impl IntoIterator<Item = f64>) -> Self {
        Self::ratios_with(ratios, Slimming::ratio)
    }

    /// The slimming that `slimming` returns for each of these ratios.
    ///
    /// ```
    /// # use slim_runtime::{Coupling, Slimming, Sweep};
    /// let sweep = Sweep::ratios_with([0.3, 0.5], |ratio| Slimming::ratio(ratio).coupling(Coupling::Mean));
    /// ```
    pub fn ratios_with(
        ratios: impl IntoIterator<Item = f64>,
        slimming: impl Fn(f64) -> Slimming,
    ) -> Self {
        Self::slimmings(ratios.into_iter().map(|ratio| (percent_asked(ratio), slimming(ratio))))
    }

    /// Several slimmings, each with its name in the report.
    pub fn slimmings<N: Into<String>>(slimmings: impl IntoIterator<Item = (N, Slimming)>) -> Self {
        Self {
            slimmings: slimmings
                .into_iter()
                .map(|(name, slimming)| (name.into(), slimming))
                .collect(),
            macs: None,
            progress: false,
        }
    }

    /// Also counts multiply-accumulates: `count` returns how many a plan leaves, as a
    /// [`Cost`](crate::Cost) of the dense network does.
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Result, Sweep};
    /// # fn f<M: Prunable + tch::nn::ModuleT>(net: &M, image: &tch::Tensor) -> Result<()> {
    /// let cost = net.cost(|net| net.forward_t(image, false))?;
    /// let sweep = Sweep::ratios([0.3, 0.5]).macs(|plan| cost.after(plan)?.macs());
    /// # Ok(())
    /// # }
    /// ```
    pub fn macs(self, count: impl Fn(&Plan) -> Result<i64> + 'a) -> Self {
        Self { macs: Some(Box::new(count)), ..self }
    }

    /// Shows a progress bar on standard error if that is a terminal.
    pub fn progress(self) -> Self {
        Self { progress: true, ..self }
    }

    /// Measures the dense network, then each slimmed one. `evaluate` returns the accuracy in a unit
    /// of its choice, as an `f64`, or as a `Result<f64, E>` whose error converts from this crate's,
    /// such as `anyhow`'s.
    ///
    /// All plans are made before anything is measured. `evaluate` runs without gradients, and has
    /// to run forward passes in evaluation mode, with `train = false`, or to restore the statistics
    /// of batch norms, as [`recalibrated`](crate::recalibrated()) does. The model is restored
    /// afterwards, to the bit.
    ///
    /// # Errors
    /// Those of [`plan`](Prunable::plan) and [`apply`](Prunable::apply),
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode), and those of
    /// `evaluate`. The model is restored here, too.
    ///
    /// # Panics
    /// When `evaluate` panics. The model is restored here, too.
    pub fn run<M: Prunable + ?Sized, E: Evaluation>(
        self,
        model: &mut M,
        mut evaluate: impl FnMut(&M) -> E,
    ) -> Result<Swept, E::Error> {
        let points = self
            .slimmings
            .into_iter()
            .map(|(name, slimming)| Point::new(name, model.plan(&slimming)?, self.macs.as_deref()));
        let points = points.collect::<Result<Vec<_>>>()?;
        let Some(first) = points.first() else {
            return Err(Error::Selection(SelectionError::NothingToPrune {
                reason: "the sweep has no ratio to try".to_owned(),
            })
            .into());
        };
        let dense = Point::new(
            "dense".to_owned(),
            plan::without_removals(&first.plan),
            self.macs.as_deref(),
        )?;
        let mut swept = Swept { dense, points };
        let bar = if self.progress {
            progress_bar(1 + swept.points.len())
        } else {
            ProgressBar::hidden()
        };
        for point in std::iter::once(&mut swept.dense).chain(&mut swept.points) {
            bar.set_message(point.name.clone());
            point.accuracy = evaluated(model, &point.plan, ModelState::Slimmed, &mut evaluate)?;
            bar.inc(1);
        }
        Ok(swept)
    }
}

/// A measured accuracy: an `f64`, or a `Result` of one.
pub trait Evaluation {
    /// The error of a measurement, which can hold this crate's errors.
    type Error: From<Error>;

    /// The accuracy.
    ///
    /// # Errors
    /// When the accuracy could not be measured.
    fn into_accuracy(self) -> Result<f64, Self::Error>;
}

impl Evaluation for f64 {
    type Error = Error;

    fn into_accuracy(self) -> Result<f64> {
        Ok(self)
    }
}

impl<E: From<Error>> Evaluation for Result<f64, E> {
    type Error = E;

    fn into_accuracy(self) -> Result<f64, E> {
        self
    }
}

/// The result of a [`Sweep`]. Prints as a table; serialises without the plans.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Swept {
    /// The dense network.
    pub dense: Point,
    /// The slimmed networks, in the order of the slimmings.
    pub points: Vec<Point>,
}

/// One network of a [`Sweep`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// `50 %`, or the name that was given to the slimming.
    pub name: String,
    /// The measured accuracy, in the unit of `evaluate`.
    pub accuracy: f64,
    /// Channels that the criterion scores.
    pub channels: i64,
    /// Number of parameters.
    pub parameters: i64,
    /// Multiply-accumulates, if [`Sweep::macs`] counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<i64>,
    /// The plan that makes this network from the dense one.
    #[serde(skip)]
    pub plan: Plan,
}

impl Swept {
    /// The smallest network that keeps the accuracy: of the points that are at most `delta` less
    /// accurate than the dense network, in the unit of their accuracies, the one with the fewest
    /// parameters, the first of equal ones. `None` if every point loses more.
    pub fn most_within(&self, delta: f64) -> Option<&Point> {
        let within =
            self.points.iter().filter(|point| point.accuracy >= self.dense.accuracy - delta);
        within.min_by_key(|point| point.parameters)
    }
}

impl Point {
    fn new(name: String, plan: Plan, macs: Option<&CountMacs>) -> Result<Self> {
        Ok(Self {
            name,
            accuracy: f64::NAN,
            channels: plan.channels().after,
            parameters: plan.parameters().after,
            macs: macs.map(|count| count(&plan)).transpose()?,
            plan,
        })
    }
}

fn progress_bar(steps: usize) -> ProgressBar {
    // The template is a constant. If it did not parse, the default bar would do.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} networks, {msg}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style).with_finish(ProgressFinish::AndClear)
}
