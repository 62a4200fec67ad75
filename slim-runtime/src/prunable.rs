//! The one trait: what depends on what, and a way to reach the layers.

use tch::Tensor;

use crate::analysis::{self, Masking, cost, dependencies};
use crate::graph::parts;
use crate::plan::{Plan, Slimmed};
use crate::slimming::Slimming;
use crate::slimming::criterion::LayerScores;
use crate::train::sparsity;
use crate::{
    Cost, Dependencies, Explanation, Flow, LayerVisitor, PartVisitor, Result, Tracer, select,
    surgery,
};

/// A model, block or layer whose channels can be removed.
///
/// Write `#[derive(Prunable)]` on a struct of layers and [`#[forward]`](macro@crate::forward) above
/// its forward pass. tch's layers, [`Vec`], [`Option`], [`Box`], arrays, tuples and derived structs
/// implement the trait, so models compose. Numbers, strings and
/// [`PhantomData`](std::marker::PhantomData) pass channels through.
///
/// A hand-written implementation is a symbolic forward pass. This one is a layer that scales each
/// channel and remembers how many there are:
///
/// ```
/// use slim_runtime::{Axis, Flow, LayerKind, LayerVisitor, Prunable, Result, Tracer};
/// use tch::{Tensor, nn};
///
/// #[derive(Debug)]
/// struct Scale { factor: Tensor, channels: i64 }
///
/// impl Prunable for Scale {
///     fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
///         let mut layer = cx.layer(LayerKind::other("scale"));
///         let channels = layer.follow("channels", &input, self.channels)?;
///         layer.parameter("factor", &self.factor, &[(0, channels)])?;
///         layer.size("channels", channels)?;
///         layer.pass(channels)
///     }
///     fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
///         visit.size("channels", &mut self.channels)
///     }
/// }
///
/// #[derive(Debug, Prunable)]
/// #[prune(sequential)]
/// struct Net { conv1: nn::Conv2D, bn: nn::BatchNorm, scale: Scale, conv2: nn::Conv2D }
///
/// let vs = nn::VarStore::new(tch::Device::Cpu);
/// let p = vs.root();
/// let mut net = Net {
///     conv1: nn::conv2d(&p / "conv1", 3, 8, 3, Default::default()),
///     bn: nn::batch_norm2d(&p / "bn", 8, Default::default()),
///     scale: Scale { factor: (&p / "scale").ones("factor", &[8]), channels: 8 },
///     conv2: nn::conv2d(&p / "conv2", 8, 4, 3, Default::default()),
/// };
/// net.slim(0.5)?;
/// assert_eq!(net.scale.factor.size(), [3]);
/// assert_eq!(net.scale.channels, 3);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no channel semantics",
    label = "not prunable",
    note = "if it is a struct of layers, write `#[derive(Prunable)]` on it",
    note = "in a `forward` that is read, call it by `functional::map(&xs, |xs| …)` if it works on each element by itself, or by `functional::opaque(&xs, |xs| …)`",
    note = "in a struct with `#[prune(sequential)]`, mark the field `#[prune(elementwise)]` if it keeps channels as they are and has no values per channel, `#[prune(per_channel)]` if it is a `Tensor` with one value per channel, or `#[prune(skip)]` if it is not part of the data flow"
)]
pub trait Prunable {
    /// A symbolic forward pass: records in `cx` which tensor dimensions follow which channels, and
    /// returns the output's channels.
    ///
    /// # Errors
    /// A wiring that cannot be, with the field's path: widths that do not fit, a tensor that is no
    /// variable.
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow>;

    /// Reaches state that depends on channels and is no tensor, by the names that
    /// [`trace`](Self::trace) gave it.
    ///
    /// The default is right for a layer without such state. A composite forwards to its parts with
    /// [`LayerVisitor::field`], as the derive does; a part that is forgotten is an error when a
    /// plan is applied, not a stale number. [`deploy`](crate::deploy()) reaches layers this way
    /// too; it leaves out what it cannot reach, and says so.
    ///
    /// # Errors
    /// Those of [`LayerVisitor`]'s methods.
    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        let _ = visit;
        Ok(())
    }

    /// Visits the parts of a composite, by the names that [`trace`](Self::trace) gives them.
    ///
    /// A `forward` that is read finds its layers this way, and
    /// [`add_l1_subgradient`](Self::add_l1_subgradient) the scales. The default is right for a
    /// layer; a hand-written composite visits its parts with [`PartVisitor::field`], as the derive
    /// does.
    ///
    /// # Errors
    /// Those of [`PartVisitor`]'s methods.
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.layer(|cx, input| self.trace(cx, input))
    }

    /// Decides which channels stay, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Ratio`](crate::Error::Ratio), [`Error::Slimming`](crate::Error::Slimming) and
    /// [`Error::NoLayer`](crate::Error::NoLayer) for what cannot be asked,
    /// [`Error::NonFinite`](crate::Error::NonFinite) for a NaN or infinite score,
    /// [`Error::NoRanking`](crate::Error::NoRanking) for equal ones,
    /// [`Error::OutOfReach`](crate::Error::OutOfReach) for a budget,
    /// [`Error::NothingToPrune`](crate::Error::NothingToPrune), those of the criterion and of
    /// [`trace`](Self::trace).
    fn plan(&self, slimming: &Slimming) -> Result<Plan> {
        select::plan(&analysis::trace(self, slimming.zeroed())?, slimming)
    }

    /// Like [`plan`](Self::plan), for inputs of the shape of a sample: for a `forward` that does
    /// something else for inputs of other sizes, or gives sizes to operations that are written out.
    /// `#[prune(input = [3, 224, 224])]` on the struct does the same for all plans.
    ///
    /// `samples` are the model's inputs `[N, …]`, one for each; only their shapes are read.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan).
    fn plan_on(&self, samples: &[&Tensor], slimming: &Slimming) -> Result<Plan> {
        let shape = |sample: &&Tensor| sample.size().into_iter().skip(1).collect();
        let shapes: Vec<Vec<i64>> = samples.iter().map(shape).collect();
        select::plan(&analysis::trace_on(self, Some(&shapes), slimming.zeroed())?, slimming)
    }

    /// Why each channel of the layer at `path` stays or goes. Changes nothing. `path` is that of
    /// one layer, and no pattern.
    ///
    /// # Errors
    /// [`Error::NoLayer`](crate::Error::NoLayer), those of [`plan`](Self::plan).
    fn explain(&self, slimming: &Slimming, path: &str) -> Result<Explanation> {
        select::explain(&analysis::trace(self, slimming.zeroed())?, slimming, path)
    }

    /// The score of each channel by itself, by the criterion and the normalisation of `slimming`:
    /// |γ| of every batch norm, unless it says otherwise.
    ///
    /// A plan compares them with its threshold, after those of channels that stay or go together
    /// have become [one](crate::Coupling). Layers come in the order of the data flow, a shared γ
    /// once, all scores from the device in one go. To watch γ while training, or to draw their
    /// distribution.
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
    /// #     conv: nn::conv2d(p / "conv", 3, 8, 3, Default::default()),
    /// #     bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
    /// #     fc: nn::linear(p / "fc", 8, 10, Default::default()),
    /// # };
    /// let scores = net.scores(&Slimming::ratio(0.5))?;
    /// assert_eq!((scores[0].path.as_str(), scores[0].scores.len()), ("bn", 8));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Slimming`](crate::Error::Slimming) for what cannot be asked,
    /// [`Error::NonFinite`](crate::Error::NonFinite), those of the criterion and of
    /// [`trace`](Self::trace).
    fn scores(&self, slimming: &Slimming) -> Result<Vec<LayerScores>> {
        select::scores(&analysis::trace(self, slimming.zeroed())?, slimming)
    }

    /// Which layers make, scale and read which channels, and which of those stay or go together.
    /// Reads no weight and changes nothing.
    ///
    /// ```
    /// use slim_runtime::{Prunable, model, nn};
    ///
    /// model! {
    ///     #[derive(Debug)]
    ///     struct Net {
    ///         conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
    ///         bn1 = batch_norm(8);
    ///         a = relu;
    ///         conv2 = conv2d(8 => 8, kernel = 3, padding = 1, bias = false);
    ///         bn2 = batch_norm(8);
    ///         bn2 + a;
    ///         relu;
    ///         adaptive_avg_pool(1);
    ///         flatten;
    ///         fc = linear(8 => 10);
    ///     }
    /// }
    ///
    /// let net = Net::new(nn::VarStore::new(tch::Device::Cpu).root());
    /// let dependencies = net.dependencies()?;
    /// println!("{dependencies}"); // a table of the groups
    /// std::fs::write(std::env::temp_dir().join("net.dot"), dependencies.to_dot()).unwrap();
    ///
    /// // Both convolutions make the channels of the sum, so they lose the same ones.
    /// let sum = dependencies.groups.iter().find(|group| group.is_coupled()).unwrap();
    /// let makers: Vec<_> = sum.makers().map(|layer| dependencies.layers[layer].path.as_str()).collect();
    /// assert_eq!((makers.as_slice(), sum.channels), (["conv1", "conv2"].as_slice(), 8));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`trace`](Self::trace).
    fn dependencies(&self) -> Result<Dependencies> {
        Ok(dependencies::of(&analysis::trace(self, Masking::BatchNorm)?))
    }

    /// Carries out a plan, in place: layers, their `VarStore` and gradients shrink together.
    ///
    /// The plan may have been made on a replica, or read from a file. Fields must hold the store's
    /// own variables (`shallow_clone` is one, `detach` is not). Optimizers built before keep
    /// momentum of the old shapes: build a new one.
    ///
    /// This is a transaction: every new tensor is computed and checked before the first is put in
    /// place, and what fails then, or panics in a hand-written [`layers_mut`](Self::layers_mut), is
    /// undone. The `&mut` is what keeps other threads out: tensors are not [`Sync`], so whoever
    /// else reads the model waits for a lock, and sees it as it was or as it is then. A thread with
    /// handles of its own (`VarStore::variables`) is not kept out.
    ///
    /// # Errors
    /// [`Error::PlanMismatch`](crate::Error::PlanMismatch) when the plan is another network's,
    /// [`Error::PlanInvalid`](crate::Error::PlanInvalid) when it contradicts itself,
    /// [`Error::Torch`](crate::Error::Torch) when memory runs out. The model is then as it was, to
    /// the bit.
    fn apply(&mut self, plan: &Plan) -> Result<Slimmed> {
        let graph = analysis::trace(self, plan.masking())?;
        surgery::apply(self, &graph, plan)
    }

    /// Sets γ and β of the channels that the plan removes to zero, or
    /// [what else](Slimming::masking) its criterion asks for, and keeps every shape.
    ///
    /// In evaluation mode this network and the slimmed one are the same function; its accuracy is
    /// what slimming costs before fine-tuning. For a look at it only, there is [`Plan::masked`].
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply); the model is then as it was.
    fn mask(&mut self, plan: &Plan) -> Result<()> {
        let graph = analysis::trace(self, plan.masking())?;
        surgery::mask(self, &graph, plan)
    }

    /// Removes the share `ratio` of the model's channels: those with the smallest |γ| of all batch
    /// norms together.
    ///
    /// This is the rule of Network Slimming (Liu et al., ICCV 2017), with a floor of one channel
    /// per layer; see [`Slimming::ratio`]. In evaluation mode the slimmed network computes what the
    /// network computes with γ and β of the removed channels set to zero, provided that its
    /// activations map zero to zero. Build a new optimizer afterwards: momentum has the old shapes.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan) and [`apply`](Self::apply).
    fn slim(&mut self, ratio: f64) -> Result<Slimmed> {
        let slimming = Slimming::ratio(ratio);
        let graph = analysis::trace(self, slimming.zeroed())?;
        let plan = select::plan(&graph, &slimming)?;
        surgery::apply(self, &graph, &plan)
    }

    /// Adds the subgradient of `s · Σ|γ|` to the gradients: `γ.grad += s · sign(γ)` for every batch
    /// norm. Call it after `backward` and before `step`.
    ///
    /// The penalty drives unimportant channels' γ to zero while training. The paper uses `s = 1e-4`
    /// for VGG and `1e-5` for ResNet and DenseNet. A γ without gradient (frozen, or not part of
    /// this loss) is left alone.
    ///
    /// # Errors
    /// [`Error::SparsityFactor`](crate::Error::SparsityFactor);
    /// [`Error::NothingToPrune`](crate::Error::NothingToPrune) when the model has no γ;
    /// [`Error::NoGradient`](crate::Error::NoGradient) when no γ that is trained has a gradient, as
    /// before `backward`; those of [`trace`](Self::trace).
    fn add_l1_subgradient(&self, s: f64) -> Result<()> {
        sparsity::add_l1_subgradient(&parts::scales(self)?, s)
    }

    /// Parameters and MACs, by layer and in total, for one sample: recorded while `forward` runs,
    /// without gradients, on a batch of one.
    ///
    /// Counted are the drop-in layers of [`nn`](crate::nn), so a network from
    /// [`model!`](crate::model) is counted whole, and hand-written layers that
    /// [report](crate::nn::record_macs). tch's own convolutions and linear layers, and layers that
    /// did not run, are named as uncounted.
    ///
    /// ```
    /// use slim_runtime::{Prunable, Slimming, model, nn};
    /// use tch::{Device, Tensor, nn::ModuleT};
    ///
    /// model! {
    ///     #[derive(Debug)]
    ///     struct Net {
    ///         conv = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
    ///         bn = batch_norm(8);
    ///         relu;
    ///         adaptive_avg_pool(1);
    ///         flatten;
    ///         fc = linear(8 => 10);
    ///     }
    /// }
    ///
    /// let net = Net::new(nn::VarStore::new(Device::Cpu).root());
    /// let sample = Tensor::zeros([1, 3, 32, 32], tch::kind::FLOAT_CPU);
    /// let cost = net.cost(|net| net.forward_t(&sample, false))?;
    /// assert_eq!(cost.layer("conv").unwrap().macs, Some(3 * 3 * 3 * 8 * 32 * 32));
    /// assert_eq!(cost.macs()?, 3 * 3 * 3 * 8 * 32 * 32 + 8 * 10);
    /// assert_eq!(cost.parameters(), 3 * 3 * 3 * 8 + 2 * 8 + 8 * 10 + 10);
    ///
    /// // What it will be, exactly, before anything is removed.
    /// let plan = net.plan(&Slimming::ratio(0.5))?;
    /// assert!(cost.after(&plan)?.macs()? < cost.macs()? / 2);
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Batch`](crate::Error::Batch) when a layer was given more than one sample,
    /// [`Error::Layer`](crate::Error::Layer) when one reports what cannot be, those of
    /// [`trace`](Self::trace). Uncounted layers are no error here, but one of [`Cost::macs`].
    ///
    /// # Panics
    /// When `forward` does.
    fn cost<T>(&self, forward: impl FnOnce(&Self) -> T) -> Result<Cost>
    where
        Self: Sized,
    {
        cost::of_one(self, forward)
    }

    /// Parameters and MACs as [`cost`](Self::cost) counts them, without running anything: from a
    /// `forward` that is [read](crate::forward), for inputs of these shapes without samples,
    /// `[channels, positions…]`. None need be given where `#[prune(input = [3, 224, 224])]` says
    /// them. tch's own layers are counted too.
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) where the shape is not known or a wiring is declared;
    /// those of [`trace`](Self::trace).
    fn cost_by_shape(&self, shapes: &[&[i64]]) -> Result<Cost> {
        let shapes: Vec<Vec<i64>> = shapes.iter().map(|shape| shape.to_vec()).collect();
        cost::by_shape(self, &shapes)
    }

    /// Like [`cost`](Self::cost), where `forward` runs `samples` samples alike; what is returned is
    /// for one of them. With 1, also where layers see something else in their batch dimension: the
    /// words of one text, the frames of one film.
    ///
    /// # Errors
    /// [`Error::Samples`](crate::Error::Samples) when there are none, or a count is no multiple of
    /// them, and those of [`cost`](Self::cost).
    ///
    /// # Panics
    /// When `forward` does.
    fn cost_of_batch<T>(&self, samples: i64, forward: impl FnOnce(&Self) -> T) -> Result<Cost>
    where
        Self: Sized,
    {
        cost::of_each(self, samples, forward)
    }
}
