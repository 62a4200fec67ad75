//! Choosing what to remove.
//!
//! A [`Slimming`](crate::Slimming) states how many channels go, which ones go first, and which ones
//! stay in any case. [`plan`](crate::Prunable::plan) turns it into a [`Plan`](crate::Plan) and
//! changes nothing. The plan records the slimming, prints what was asked for and what was reached,
//! and shows where a bound overruled the target.
//!
//! ```
//! use slim_runtime::{Prunable, Slimming, Target, criterion::L2, nn};
//! use tch::Device;
//!
//! #[derive(Debug, Prunable)]
//! #[prune(sequential)]
//! struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
//! # let vs = nn::VarStore::new(Device::Cpu);
//! # let p = &vs.root();
//! # let net = Net {
//! #     conv1: nn::conv2d(p / "conv1", 3, 32, 3, Default::default()),
//! #     bn1: nn::batch_norm2d(p / "bn1", 32, Default::default()),
//! #     conv2: nn::conv2d(p / "conv2", 32, 64, 3, Default::default()),
//! #     bn2: nn::batch_norm2d(p / "bn2", 64, Default::default()),
//! #     fc: nn::linear(p / "fc", 64, 10, Default::default()),
//! # };
//!
//! // At most 40 % of the parameters, in multiples of 8 channels, at least 8 of each layer.
//! let plan = net.plan(&Slimming::params(0.4).round_to(8).at_least(8))?;
//! assert!(plan.parameters().after as f64 <= 0.4 * plan.parameters().before as f64);
//! assert!(plan.cfg().widths().all(|width| width % 8 == 0));
//!
//! // By the norms of filters, a quarter of all but the second convolution, which loses half of its own.
//! let plan = net.plan(&Slimming::ratio(0.25).criterion(L2).layers("conv2", Target::Ratio(0.5)))?;
//! println!("{}", net.explain(plan.slimming(), "conv2")?); // channel by channel, and why
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! # All options
//!
//! | how much goes | | default |
//! | --- | --- | --- |
//! | [`ratio(r)`](crate::Slimming::ratio) | the share `r` of the channels that may go, by the paper's rule; what [`slim(r)`](crate::Prunable::slim) does | one of these six is given |
//! | [`threshold(t)`](crate::Slimming::threshold) | channels whose score is at most `t` | |
//! | [`top_k(k)`](crate::Slimming::top_k) | all but `k` | |
//! | [`params(s)`](crate::Slimming::params) | as few as leave at most the share `s` of the parameters | |
//! | [`macs(s, &cost)`](crate::Slimming::macs) | as few as leave at most the share `s` of the multiply-accumulates that [`cost`](crate::Prunable::cost) counted | |
//! | [`latency(s, &table)`](crate::Slimming::latency) | as few as leave at most the share `s` of the latency that [a table of measured times](super::measuring#a-budget-of-latency) predicts | |
//! | [`local()`](crate::Slimming::local) | the target applies to each layer by itself | to the whole network |
//! | [`isomorphic()`](crate::Slimming::isomorphic) | the target applies to each class of layers that stand in parts of the graph of one shape, such as the first convolutions of all blocks | to the whole network |
//! | [`layers(pattern, target)`](crate::Slimming::layers) | a ratio, threshold or top-k for some layers alone | all layers compete |
//!
//! | which channels go first | | default |
//! | --- | --- | --- |
//! | [`criterion(…)`](crate::Slimming::criterion) | [`BatchNormScale`](crate::criterion::BatchNormScale), [`ScaledNorm`](crate::criterion::ScaledNorm), [`L1`](crate::criterion::L1), [`L2`](crate::criterion::L2), [`Fpgm`](crate::criterion::Fpgm), [`Taylor`](crate::criterion::Taylor), [`GateTaylor`](crate::criterion::GateTaylor), [`GroupTaylor`](crate::criterion::GroupTaylor), [`Fisher`](crate::criterion::Fisher), [`Lamp`](crate::criterion::Lamp), [`MeanActivation`](crate::criterion::MeanActivation), [`Random`](crate::criterion::Random), or [one of your own](crate::criterion::Criterion) | \|γ\| of batch norms |
//! | [`masking(…)`](crate::Slimming::masking) | [what is zero](crate::criterion::Masking) when a channel is removed: γ and β, or every parameter | as the criterion [asks](crate::criterion::Criterion::masking): γ and β where batch norms are scored, every parameter for all others |
//! | [`normalisation(…)`](crate::Slimming::normalisation) | scores of a layer divided by its [largest, mean or L2 norm](crate::criterion::Normalisation) | scores as they are |
//! | [`coupling(…)`](crate::Slimming::coupling) | the [largest, mean or sum](crate::Coupling) of the scores of channels that stay or go together | the largest |
//!
//! | what stays | | default |
//! | --- | --- | --- |
//! | [`at_least(n)`](crate::Slimming::at_least) | `n` channels of each layer | one; two in each group of tch's own grouped convolutions |
//! | [`max_removed(s)`](crate::Slimming::max_removed) | all but the share `s` of each layer | no limit |
//! | [`round_to(n)`](crate::Slimming::round_to), [`round_down_to(n)`](crate::Slimming::round_down_to) | a multiple of `n` channels of each layer, or all; never none | no rounding |
//! | [`keep(pattern)`](crate::Slimming::keep) | the channels that these layers make or pass on; like `#[prune(keep)]` in the definition | |
//!
//! | repair without training | | default |
//! | --- | --- | --- |
//! | [`absorb()`](crate::Slimming::absorb) | act(β) of each removed channel goes into the next bias or running mean | it is dropped, as in the paper |
//! | [`absorb_after(act)`](crate::Slimming::absorb_after) | the same, with this [activation](crate::Activation) where the wiring states none | |
//! | [`Reconstruction`](crate::Reconstruction) | applies a plan and solves the weights of layers that lose inputs anew, by least squares over a few batches | they lose the columns of these inputs |
//! | [`recalibrate(…)`](crate::recalibrate()), [`recalibrated(…)`](crate::recalibrated()) | batch-norm statistics, estimated anew from data after slimming; the second restores them behind a measurement | they stay as they are |
//!
//! # A ratio for each layer
//!
//! A global ranking compares the scores of different layers, which need not mean the same. What a
//! layer is worth can be measured instead: [`Sensitivity`](crate::Sensitivity) masks a share of the
//! channels of one layer alone (of all layers whose channels stay or go together), and
//! [`Search`](crate::Search) looks for the ratios that keep a measured value highest within a
//! budget. Both call a closure that returns the value, such as the accuracy on images that are not
//! the test images, and need one evaluation for each point or individual.
//!
//! ```
//! use slim_runtime::{Prunable, Search, Sensitivity, Slimming, nn};
//! use tch::{Device, Kind, Tensor, nn::ModuleT};
//! # #[derive(Debug, Prunable)]
//! # #[prune(sequential)]
//! # struct Net { conv1: nn::Conv2D, bn1: nn::BatchNorm, conv2: nn::Conv2D, bn2: nn::BatchNorm, fc: nn::Linear }
//! # impl ModuleT for Net {
//! #     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//! #         let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
//! #         let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
//! #         xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
//! #     }
//! # }
//! # let vs = nn::VarStore::new(Device::Cpu);
//! # let p = &vs.root();
//! # let mut net = Net {
//! #     conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()),
//! #     bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
//! #     conv2: nn::conv2d(p / "conv2", 8, 12, 3, Default::default()),
//! #     bn2: nn::batch_norm2d(p / "bn2", 12, Default::default()),
//! #     fc: nn::linear(p / "fc", 12, 10, Default::default()),
//! # };
//! # let images = Tensor::randn([16, 3, 8, 8], (Kind::Float, Device::Cpu));
//! # let labels = Tensor::randint(10, [16], (Kind::Int64, Device::Cpu));
//! # let file = std::env::temp_dir().join(format!("search-{}.json", std::process::id()));
//! let accuracy = |net: &Net| {
//!     net.forward_t(&images, false).accuracy_for_logits(&labels).double_value(&[])
//! };
//!
//! let slimming = Slimming::params(0.5);
//! let sensitivity = Sensitivity::measure(&mut net, &slimming, [0.25, 0.5, 0.75], accuracy)?;
//! println!("{sensitivity}"); // a table: layers by ratios
//!
//! // Half of the parameters, with a ratio for each layer; saved after each evaluation.
//! let mut search = Search::new(&net, &slimming)?.suggested_by(&sensitivity)?.population(4).seed(1);
//! search.run_with(&mut net, 2, accuracy, |search| {
//!     std::fs::write(&file, search.to_json()?).unwrap();
//!     Ok(())
//! })?;
//!
//! // Later: two more generations, then surgery.
//! let mut search = Search::from_json(&std::fs::read_to_string(&file).unwrap())?;
//! search.run(&mut net, 4, accuracy)?;
//! if let Some(found) = search.found() {
//!     net.apply(&net.plan(&found)?)?;
//! }
//! # std::fs::remove_file(&file).unwrap();
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! The value is that of the network before fine-tuning, which is not always the order after it.
//! Where much goes, networks differ little before they are recalibrated: let the measure call
//! [`recalibrated`](crate::recalibrated()). A search that goes on finds the same as one that was
//! not interrupted, to the bit, if the measure returns the same each time. The commands `slim
//! sensitivity` and `slim search` do this for the networks of the zoo.
//!
//! # How channels are selected
//!
//! 1. The criterion scores the channels of each layer that it applies to, and coupled channels get
//!    one score.
//! 2. The channels that may go are sorted by score. Of equal scores, the last channel in the data
//!    flow goes first.
//! 3. Channels go one after the other until the target is met. If removing a channel would leave
//!    any layer with fewer channels than a bound allows, the channel stays, and the next one is
//!    tried. So all bounds hold at once, and none undoes another. The width of each layer and the
//!    cost of the network are kept up to date on the way, so a budget needs no repeated surgery.
//! 4. Rounding comes last, layer by layer. Rounding up restores the removed channels with the best
//!    scores; rounding down removes the remaining channels with the worst scores. A restored
//!    channel may spoil the multiple of another layer, which is then rounded up as well. A budget
//!    or a top-k applies to the rounded network: bisection finds how many channels go. The limit is
//!    never exceeded. But the size after rounding need not shrink with every channel that goes, so
//!    now and then a somewhat larger network would also have met the limit.
//!
//! With [`local`](crate::Slimming::local) or [`isomorphic`](crate::Slimming::isomorphic), this
//! happens in each layer or class by itself. A budget is of the whole network, so all of them lose
//! the same share, the smallest that is enough.
//!
//! If a bound kept a layer from its target, the report shows it layer by layer, and so does
//! [`Plan::bounded`](crate::Plan::bounded).
//!
//! # Which channels may go
//!
//! With |γ|, and with the other criteria that score batch norms (`ScaledNorm`, `GateTaylor`), a
//! channel may go if every consumer sees zeros once its γ and β are zero. So networks need batch
//! norms, and with |γ| the result is the paper's. With any other criterion, every parameter that
//! makes the channel counts as zero too, such as its filter and bias. So networks without batch
//! norms can be slimmed, and so can streams that some layer reads ungated.
//! [`mask`](crate::Prunable::mask) sets just these parameters to zero, and the slimmed network
//! computes what the masked one does.
//!
//! # Warnings
//!
//! [`Plan::warnings`](crate::Plan::warnings) lists reasons against a plan, and the report shows
//! them. The first two apply only if the scores are |γ| (without
//! [`normalisation`](crate::Slimming::normalisation), and without the sum as
//! [`coupling`](crate::Slimming::coupling)):
//!
//! * There is no gap: the largest |γ| that goes is more than a tenth of the median that stays.
//!   Training with a sparsity penalty drives unimportant γ to 1e-5 and below; if it did, only such
//!   channels go, and slimming costs almost no accuracy. Train longer, with a larger factor, or
//!   remove less.
//! * All |γ| are below 0.1 and none is near zero (a hundredth of the largest): weight decay has
//!   shrunk them all. Weight decay is an L2 penalty, which makes values small but not zero. Exclude
//!   γ from it.
//!
//! Two are about what the plan leaves:
//!
//! * More goes than the ratio asks for, by more than a twentieth, since channels of one score are
//!   not told apart: those of a head, say, which go together. Ask for less, or for a number of
//!   channels. Scores of zero do not count: such channels may all go.
//! * Layers fall to the least that they need by norms of weights (L1, L2, FPGM) that are not
//!   normalised: those of different kinds of layers do not compare. Normalise, or rank by layer.
