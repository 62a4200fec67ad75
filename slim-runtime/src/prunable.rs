//! The trait `Prunable`: a layer's channel dependencies, and access to its state.

use tch::Tensor;

use crate::analysis::{self, Masking, cost, dependencies};
use crate::plan::{Plan, Slimmed};
use crate::slimming::Slimming;
use crate::slimming::criterion::LayerScores;
use crate::train::regulariser::{Penalty, Regulariser};
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
/// A hand-written implementation is a symbolic forward pass. This example is a layer that scales
/// each channel and stores the number of channels:
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
    note = "tch's LSTM and GRU keep their weights private; take those of `slim_runtime::nn`, `lstm` and `gru`",
    note = "in a `forward` that is read, call it by `functional::map(&xs, |xs| …)` if it works on each element by itself, or by `functional::opaque(&xs, |xs| …)`",
    note = "in a struct with `#[prune(sequential)]`, mark the field `#[prune(elementwise)]` if it keeps channels as they are and has no values per channel, `#[prune(per_channel)]` if it is a `Tensor` with one value per channel, or `#[prune(skip)]` if it is not part of the data flow"
)]
pub trait Prunable {
    /// A symbolic forward pass: records in `cx` which tensor dimensions follow which channels, and
    /// returns the output's channels.
    ///
    /// # Errors
    /// An invalid wiring, with the field's path: widths that do not fit, a tensor that is not a
    /// variable.
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow>;

    /// Visits state that depends on channels and is not a tensor, such as a stored number of
    /// channels, under the names that [`trace`](Self::trace) gave it.
    ///
    /// The default is right for a layer without such state. A composite forwards to its parts with
    /// [`LayerVisitor::field`], as the derive does. If it forgets a part, applying a plan fails
    /// instead of leaving a stale number. [`deploy`](crate::deploy()) visits layers this way too; a
    /// layer that it cannot reach stays as it is, and the report says so.
    ///
    /// # Errors
    /// Those of [`LayerVisitor`]'s methods.
    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        let _ = visit;
        Ok(())
    }

    /// Visits the parts of a composite, by the names that [`trace`](Self::trace) gives them.
    ///
    /// A symbolic pass of `forward` finds its layers this way, and
    /// [`add_l1_subgradient`](Self::add_l1_subgradient) finds the scales. The default is right for
    /// a layer; a hand-written composite visits its parts with [`PartVisitor::field`], as the
    /// derive does.
    ///
    /// # Errors
    /// Those of [`PartVisitor`]'s methods.
    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        visit.layer(|cx, input| self.trace(cx, input))
    }

    /// Decides which channels stay. Does not change the model.
    ///
    /// # Errors
    /// [`ArgumentError::Ratio`](crate::error::ArgumentError::Ratio),
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) and
    /// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer) for an invalid
    /// `slimming`, [`SelectionError::NonFinite`](crate::error::SelectionError::NonFinite) for a NaN
    /// or infinite score, [`SelectionError::NoRanking`](crate::error::SelectionError::NoRanking)
    /// when all scores are equal,
    /// [`SelectionError::OutOfReach`](crate::error::SelectionError::OutOfReach) for a number of
    /// channels or a budget that the network cannot come down to,
    /// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune), those of
    /// the criterion and of [`trace`](Self::trace).
    fn plan(&self, slimming: &Slimming) -> Result<Plan> {
        select::plan(&analysis::trace(self, slimming.zeroed())?, slimming)
    }

    /// Like [`plan`](Self::plan), for inputs of the shapes of `samples`: for a `forward` that does
    /// something else for inputs of other sizes, or passes literal sizes to operations.
    /// `#[prune(input = [3, 224, 224])]` on the struct does the same for all plans.
    ///
    /// `samples` has one tensor `[N, …]` for each input of the model; only their shapes are read.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan).
    fn plan_on(&self, samples: &[&Tensor], slimming: &Slimming) -> Result<Plan> {
        let shape = |sample: &&Tensor| sample.size().into_iter().skip(1).collect();
        let shapes: Vec<Vec<i64>> = samples.iter().map(shape).collect();
        select::plan(&analysis::trace_on(self, Some(&shapes), slimming.zeroed())?, slimming)
    }

    /// Explains why each channel of the layer at `path` stays or goes. Does not change the model.
    /// `path` names one layer; it is not a pattern.
    ///
    /// # Errors
    /// [`SelectionError::NoLayer`](crate::error::SelectionError::NoLayer), those of
    /// [`plan`](Self::plan).
    fn explain(&self, slimming: &Slimming, path: &str) -> Result<Explanation> {
        select::explain(&analysis::trace(self, slimming.zeroed())?, slimming, path)
    }

    /// The score of each single channel, by the criterion and the normalisation of `slimming`; by
    /// default |γ| of every batch norm.
    ///
    /// A plan first combines the scores of each channel group into [one score](crate::Coupling),
    /// which it compares with its threshold. Layers are in the order of the data flow, and a shared
    /// γ is listed once. All scores are copied from the device in one transfer. Use them to watch γ
    /// during training or to plot its distribution.
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
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) for an invalid
    /// `slimming`, [`SelectionError::NonFinite`](crate::error::SelectionError::NonFinite), those of
    /// the criterion and of [`trace`](Self::trace).
    fn scores(&self, slimming: &Slimming) -> Result<Vec<LayerScores>> {
        select::scores(&analysis::trace(self, slimming.zeroed())?, slimming)
    }

    /// Which layers make, scale and read which channels, and which channels stay or go together.
    /// Reads no weights and does not change the model.
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
    /// let producers: Vec<_> = sum.producers().map(|layer| dependencies.layers[layer].path.as_str()).collect();
    /// assert_eq!((producers.as_slice(), sum.channels), (["conv1", "conv2"].as_slice(), 8));
    /// # Ok::<(), slim_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`trace`](Self::trace).
    fn dependencies(&self) -> Result<Dependencies> {
        Ok(dependencies::of(&analysis::trace(self, Masking::BatchNorm)?))
    }

    /// Applies a plan in place: layers, their `VarStore` and gradients shrink together.
    ///
    /// The plan may have been made on a replica, or read from a file. Fields must hold the store's
    /// own variables (a `shallow_clone` is one, a `detach` is not). Optimizers that were built
    /// before keep momentum of the old shapes: build a new one.
    ///
    /// The surgery is a transaction: every new tensor is computed and checked before the first is
    /// put in place. If a later step fails, or a hand-written [`layers_mut`](Self::layers_mut)
    /// panics, all changes are undone. Other threads see the model either before or after the
    /// surgery: `apply` takes `&mut self`, and tensors are not [`Sync`], so a thread that shares
    /// the model holds it behind a lock. A thread that has its own handles (`VarStore::variables`)
    /// is not excluded.
    ///
    /// # Errors
    /// [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the plan was made for
    /// another network, [`PlanError::Invalid`](crate::error::PlanError::Invalid) when it
    /// contradicts itself, [`Error::Torch`](crate::Error::Torch) when memory runs out. The model is
    /// then unchanged, to the bit.
    fn apply(&mut self, plan: &Plan) -> Result<Slimmed> {
        let graph = analysis::trace(self, plan.masking())?;
        surgery::apply(self, &graph, plan)
    }

    /// Sets γ and β of the channels that the plan removes to zero, or the
    /// [parameters](Slimming::masking) that its criterion names instead, and keeps every shape.
    ///
    /// In evaluation mode the masked network and the slimmed one compute the same function, so the
    /// accuracy of the masked network shows what slimming costs before fine-tuning.
    /// [`Plan::masked`] masks the network only for the duration of a closure.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply). The model is then unchanged.
    fn mask(&mut self, plan: &Plan) -> Result<()> {
        let graph = analysis::trace(self, plan.masking())?;
        surgery::mask(self, &graph, plan)
    }

    /// Removes the share `ratio` of the model's channels: those with the smallest |γ| of all batch
    /// norms together.
    ///
    /// This is the rule of Network Slimming (Liu et al., ICCV 2017), with a floor of one channel
    /// per layer; see [`Slimming::ratio`]. In evaluation mode the slimmed network computes what the
    /// network computes with γ and β of the removed channels set to zero. Build a new optimizer
    /// afterwards: momentum has the old shapes.
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
    /// Under [`tch::autocast`], γ and its gradient stay float32, so nothing changes. If the loss is
    /// scaled by `c`, all gradients are: unscale them before this call, or call it with `c · s` and
    /// unscale afterwards. [`Regulariser::add_gradient`] says more.
    ///
    /// # Errors
    /// [`ArgumentError::SparsityFactor`](crate::error::ArgumentError::SparsityFactor);
    /// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune) when the
    /// model has no γ; [`SelectionError::NoGradient`](crate::error::SelectionError::NoGradient)
    /// when no trained γ has a gradient, for example before `backward`; those of
    /// [`trace`](Self::trace).
    fn add_l1_subgradient(&self, s: f64) -> Result<()> {
        Regulariser::new(self, Penalty::L1)?.add_gradient(s)
    }

    /// A [penalty](crate::Penalty) that drives channels to zero while training: for many steps, on
    /// the parameters that the model has now. Make another after slimming.
    ///
    /// # Errors
    /// [`SelectionError::NothingToPrune`](crate::error::SelectionError::NothingToPrune) when there
    /// is nothing to penalise; those of [`trace`](Self::trace).
    fn regulariser(&self, penalty: Penalty) -> Result<Regulariser> {
        Regulariser::new(self, penalty)
    }

    /// Parameters and MACs for one sample, by layer and in total. They are recorded while `forward`
    /// runs, without gradients, on a batch of one.
    ///
    /// It counts the drop-in layers of [`nn`](crate::nn), and with them all of a network from
    /// [`model!`](crate::model), and hand-written layers that
    /// [report their uses](crate::nn::record_macs). tch's own convolutions and linear layers, and
    /// layers that did not run, are listed as uncounted.
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
    /// [`ArgumentError::Batch`](crate::error::ArgumentError::Batch) when a layer was given more
    /// than one sample, [`WiringError::Layer`](crate::error::WiringError::Layer) when a layer
    /// reports an invalid number of uses, those of [`trace`](Self::trace). Uncounted layers are not
    /// an error here; they are one in [`Cost::macs`].
    ///
    /// # Panics
    /// When `forward` panics.
    fn cost<T>(&self, forward: impl FnOnce(&Self) -> T) -> Result<Cost>
    where
        Self: Sized,
    {
        cost::of_one(self, forward)
    }

    /// Parameters and MACs as [`cost`](Self::cost) counts them, without running the network: from a
    /// `forward` that is [read](crate::forward), for inputs of these shapes without the batch,
    /// `[channels, positions…]`. `shapes` may be empty where `#[prune(input = [3, 224, 224])]`
    /// gives them. tch's own layers are counted too.
    ///
    /// # Errors
    /// [`WiringError::Layer`](crate::error::WiringError::Layer) when the shape is not known or the
    /// wiring is declared; those of [`trace`](Self::trace).
    fn cost_by_shape(&self, shapes: &[&[i64]]) -> Result<Cost> {
        let shapes: Vec<Vec<i64>> = shapes.iter().map(|shape| shape.to_vec()).collect();
        cost::by_shape(self, &shapes)
    }

    /// Like [`cost`](Self::cost), for a `forward` that runs `samples` equal samples; returns the
    /// cost of one of them. Pass 1 when the batch dimension of some layers counts parts of one
    /// sample: the words of one text, the frames of one film.
    ///
    /// # Errors
    /// [`ArgumentError::Samples`](crate::error::ArgumentError::Samples) when `samples` is not
    /// positive, or a count is not a multiple of it; those of [`cost`](Self::cost).
    ///
    /// # Panics
    /// When `forward` panics.
    fn cost_of_batch<T>(&self, samples: i64, forward: impl FnOnce(&Self) -> T) -> Result<Cost>
    where
        Self: Sized,
    {
        cost::of_each(self, samples, forward)
    }
}
