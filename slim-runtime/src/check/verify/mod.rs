//! Verification: whether the slimmed network computes what the masked one does, as a check of the
//! wiring against `forward` before surgery takes effect.

pub(crate) mod bisect;
mod groups;
mod order;

use std::borrow::Cow;
use std::fmt;

use tch::Tensor;

use crate::analysis::{self, Graph, Masking};
use crate::error::{ArgumentError, CheckError};
use crate::numeric::OutputError;
use crate::numeric::compare::{self, Divergence};
use crate::panics::caught;
use crate::plan::{self, Plan, Slimmed};
use crate::slimming::Slimming;
use crate::surgery::{ModelState, absorb, temporarily};
use crate::{Absorbed, Absorption, Error, Prunable, Result, surgery};

impl Slimming {
    /// Slims a model only if, on a sample, the slimmed network computes what the masked one does.
    ///
    /// The fields of a model and its `forward` are two texts, and no compiler compares them.
    /// Verification does: `forward` runs once with γ and β of the removed channels set to zero, and
    /// once without these channels. If the outputs agree, the model stays slimmed. If they do not,
    /// or if the slimmed network panics, the model is restored, and the error names the channels
    /// whose removal alone makes the difference, found by bisection, and the layers that make and
    /// read them.
    ///
    /// `forward` runs the network in evaluation mode on `sample`, without gradients, and returns
    /// floats: logits, say, but not classes. A network with several outputs returns them
    /// concatenated. A few real images are enough. Differences that do not reach the output on them
    /// are not seen: behind a ReLU that lets nothing through, a mistake makes no difference. A
    /// sample on which the output is zero or not finite shows nothing, and is an error.
    ///
    /// ```
    /// # use slim_runtime::{Prunable, Slimming};
    /// # use tch::{Device, Kind, Tensor, nn::{self, ModuleT}};
    /// # #[derive(Debug, Prunable)]
    /// # #[prune(sequential)]
    /// # struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
    /// # impl ModuleT for Net {
    /// #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
    /// #         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
    /// #         let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
    /// #         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
    /// #     }
    /// # }
    /// # let vs = nn::VarStore::new(Device::Cpu);
    /// # let p = &vs.root();
    /// # let mut net = Net {
    /// #     conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()),
    /// #     bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
    /// #     conv2: nn::conv2d(p / "conv2", 8, 8, 3, Default::default()),
    /// #     bn2: nn::batch_norm2d(p / "bn2", 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 4, Default::default()),
    /// # };
    /// let images = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    /// let verified = Slimming::ratio(0.5).verify(&images, |net: &Net, images| net.forward_t(images, false)).slim(&mut net)?;
    /// println!("{verified}"); // slimmed and masked outputs (up to 0.5) differ by 3.0e-8 at most
    /// assert!(verified.closeness.difference <= 1e-4 * verified.closeness.magnitude);
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    pub fn verify<M, X, F>(self, sample: &X, forward: F) -> Verify<'_, X, F>
    where
        M: ?Sized,
        X: ?Sized,
        F: Fn(&M, &X) -> Tensor,
    {
        Verify { subject: Subject::Slimming(Box::new(self)), sample, forward, tolerance: None }
    }
}

impl Plan {
    /// Carries out this plan only if, on a sample, the slimmed network computes what the masked one
    /// does; see [`Slimming::verify`].
    pub fn verify<'x, M, X, F>(&'x self, sample: &'x X, forward: F) -> Verify<'x, X, F>
    where
        M: ?Sized,
        X: ?Sized,
        F: Fn(&M, &X) -> Tensor,
    {
        Verify { subject: Subject::Plan(self), sample, forward, tolerance: None }
    }
}

/// Surgery that takes effect only if the slimmed network computes what the masked one does; made by
/// [`Slimming::verify`] and [`Plan::verify`].
#[must_use = "nothing is verified before `slim`, `apply` or `check`"]
pub struct Verify<'x, X: ?Sized, F> {
    subject: Subject<'x>,
    sample: &'x X,
    forward: F,
    tolerance: Option<f64>,
}

/// The slimming or plan to verify.
enum Subject<'x> {
    /// Planned on the model first.
    Slimming(Box<Slimming>),
    Plan(&'x Plan),
}

impl<X: ?Sized, F> Verify<'_, X, F> {
    /// Sets how far an output may be off, relative to the largest output of the masked network.
    ///
    /// The default allows for sums in another order, by the coarsest kind among the network's
    /// tensors and its output:
    ///
    /// | kind | default |
    /// | --- | --- |
    /// | `f64` | 1e-10 |
    /// | `f32` | 1e-4 |
    /// | `f32` on a GPU, where convolutions are computed in TF32 | 2e-2 |
    /// | `f16` | 5e-2 |
    /// | `bf16` | 2e-1 |
    ///
    /// A wrong channel that changes the output by less than this is not found, so a half-precision
    /// network is best verified as `f32`.
    pub fn tolerance(self, relative: f64) -> Self {
        Self { tolerance: Some(relative), ..self }
    }
}

impl<'x, X: ?Sized, F> Verify<'x, X, F> {
    /// Slims the model, as [`apply`](Self::apply) does.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    ///
    /// # Panics
    /// As for [`apply`](Self::apply).
    pub fn slim<M: Prunable + ?Sized>(self, model: &mut M) -> Result<Verified>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        self.apply(model)
    }

    /// Carries out the slimming or the plan.
    ///
    /// # Errors
    /// [`CheckError::Diverged`](crate::error::CheckError::Diverged) when the slimmed network
    /// computes something else than the masked one;
    /// [`CheckError::TrainingMode`](crate::error::CheckError::TrainingMode) and
    /// [`CheckError::Unverified`](crate::error::CheckError::Unverified) when the closure does not
    /// allow a comparison; [`ArgumentError::Tolerance`](crate::error::ArgumentError::Tolerance);
    /// those of [`plan`](Prunable::plan) and [`apply`](Prunable::apply). The model is restored, to
    /// the bit.
    ///
    /// # Panics
    /// When the closure panics while the model has all channels. The model is restored here, too.
    pub fn apply<M: Prunable + ?Sized>(self, model: &mut M) -> Result<Verified>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let (comparison, plan) = self.prepared(model)?;
        comparison.carry_out(model, &plan)
    }

    /// Measures how far the slimmed network would be from the masked one, and leaves the model
    /// unchanged.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    ///
    /// # Panics
    /// As for [`apply`](Self::apply).
    pub fn check<M: Prunable + ?Sized>(self, model: &mut M) -> Result<OutputError>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let (comparison, plan) = self.prepared(model)?;
        comparison.verify(model, &plan)
    }

    /// The comparison and its plan; a slimming is planned on the model first.
    fn prepared<M: Prunable + ?Sized>(
        self,
        model: &M,
    ) -> Result<(Comparison<'x, X, F>, Cow<'x, Plan>)> {
        let Self { subject, sample, forward, tolerance } = self;
        let plan = match subject {
            Subject::Slimming(slimming) => Cow::Owned(model.plan(&slimming)?),
            Subject::Plan(plan) => Cow::Borrowed(plan),
        };
        let graph = analysis::trace(model, plan.masking())?;
        Ok((Comparison { graph, sample, forward, tolerance }, plan))
    }
}

/// A slimmed model that computes what the masked one does. Prints how close the two are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// What was carried out.
    pub slimmed: Slimmed,
    /// How far the slimmed network is from the masked one.
    pub closeness: OutputError,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.closeness.fmt(f)
    }
}

/// How many groups of channels an error names that make a difference only together.
const MOST_GROUPS: usize = 4;

/// Compares the masked with the slimmed network, for one plan or parts of it.
struct Comparison<'t, X: ?Sized, F> {
    graph: Graph,
    sample: &'t X,
    forward: F,
    tolerance: Option<f64>,
}

impl<X: ?Sized, F> Comparison<'_, X, F> {
    fn carry_out<M: Prunable + ?Sized>(&self, model: &mut M, plan: &Plan) -> Result<Verified>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let closeness = self.verify(model, plan)?;
        // The declared wiring has been compared with `forward`.
        let verified = plan.clone().declared_by(Vec::new());
        Ok(Verified { slimmed: surgery::apply(model, &self.graph, &verified)?, closeness })
    }

    fn verify<M: Prunable + ?Sized>(&self, model: &mut M, plan: &Plan) -> Result<OutputError>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        if let Some(tolerance) =
            self.tolerance.filter(|tolerance| !tolerance.is_finite() || *tolerance < 0.0)
        {
            return Err(Error::Argument(ArgumentError::Tolerance(tolerance)));
        }
        // With absorption, the network does not compute what the masked one does. So the removed
        // channels are verified without absorption.
        let plain = &plan::without_absorption(plan);
        let closeness = match self.compare(model, plain)? {
            Ok(closeness) => closeness,
            Err(divergence) => return Err(self.explain(model, plain, divergence)?),
        };
        if plan.slimming.absorb.is_some() {
            self.verify_absorption(model, plan)?;
        }
        Ok(closeness)
    }

    /// If all that removed channels send is absorbed exactly, the slimmed network computes what the
    /// network does whose γ are zero and whose β are kept.
    fn verify_absorption<M: Prunable + ?Sized>(&self, model: &mut M, plan: &Plan) -> Result<()>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let exact = |absorbed: &Absorbed| {
            matches!(absorbed.absorption, Absorption::Into { exact: true, .. })
        };
        let absorbed = absorb::shifts(&self.graph, plan)?.absorbed;
        if plan.masking() != Masking::BatchNorm
            || absorbed.is_empty()
            || !absorbed.iter().all(exact)
        {
            return Ok(());
        }
        let run = |model: &M| (self.forward)(model, self.sample).f_detach();
        let scaled = temporarily(model, &self.graph, plan, ModelState::Scaled, run)?
            .map_err(Error::torch("the output with β kept"))?;
        let slimmed = temporarily(model, &self.graph, plan, ModelState::Slimmed, run)?
            .map_err(Error::torch("the output with absorption"))?;
        let tolerance = self
            .tolerance
            .unwrap_or_else(|| compare::tolerance(self.graph.tensors().chain([&scaled])));
        match compare::compare(&scaled, &slimmed, tolerance)? {
            Ok(_) => Ok(()),
            Err(divergence) => Err(Error::Check(CheckError::Diverged {
                places: vec![format!(
                    "with absorption, which reports that it is exact: {divergence}; leave absorption out, and tell the maintainers of slim"
                )],
            })),
        }
    }

    fn compare<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        plan: &Plan,
    ) -> Result<Result<OutputError, Divergence>>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let (masked, tolerance) = self.masked(model, plan)?;
        let run = |model: &M| caught(|| (self.forward)(model, self.sample).f_detach());
        match temporarily(model, &self.graph, plan, ModelState::Slimmed, run)? {
            Ok(slimmed) => compare::compare(
                &masked,
                &slimmed.map_err(Error::torch("the slimmed output"))?,
                tolerance,
            ),
            Err(message) => Ok(Err(Divergence::Panic { message })),
        }
    }

    /// The output of the masked network, and how far another output may be off.
    fn masked<M: Prunable + ?Sized>(&self, model: &mut M, plan: &Plan) -> Result<(Tensor, f64)>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        // Detached while the network is masked: an output that is a tensor of the network itself is
        // restored with the network.
        let masked = temporarily(model, &self.graph, plan, ModelState::Masked, |model| {
            (self.forward)(model, self.sample).f_detach()
        })?;
        let masked = masked.map_err(Error::torch("the masked output"))?;
        let tolerance = self
            .tolerance
            .unwrap_or_else(|| compare::tolerance(self.graph.tensors().chain([&masked])));
        Ok((compare::usable(&masked, "masked network")?, tolerance))
    }

    /// The error that names the groups of channels whose removal makes the difference.
    fn explain<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        plan: &Plan,
        divergence: Divergence,
    ) -> Result<Error>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let groups = groups::coupled(&self.graph, plan);
        // Dropout in training mode would make any two passes differ.
        let (once, tolerance) = self.masked(model, plan)?;
        let (again, _) = self.masked(model, plan)?;
        if groups.is_empty() || compare::compare(&once, &again, tolerance)?.is_err() {
            let reason = "the same network gives another output each time; call its forward pass with `train = false`".to_owned();
            return Ok(Error::Check(CheckError::Unverified { reason }));
        }
        let culprits = bisect::culprits(groups.len(), divergence, |part| {
            let removes = |channel_group| {
                part.iter().any(|&group| groups[group].channel_groups.contains(&channel_group))
            };
            match self.compare(model, &plan::restricted(&self.graph, plan, removes)) {
                Ok(compared) => Ok(compared.err()),
                // A part of the channels may leave an output that cannot be compared.
                Err(Error::Check(CheckError::Unverified { .. })) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let place = |(part, how): (Vec<usize>, Divergence)| {
            let mut names: Vec<_> =
                part.iter().take(MOST_GROUPS).map(|&group| groups[group].to_string()).collect();
            if part.len() > MOST_GROUPS {
                names.push(format!("{} other sets of channels", part.len() - MOST_GROUPS));
            }
            format!("without {}: {how}", names.join(", and without "))
        };
        let order = order::difference(&self.graph, || drop((self.forward)(model, self.sample)));
        Ok(Error::Check(CheckError::Diverged {
            places: culprits.into_iter().map(place).chain(order).collect(),
        }))
    }
}
