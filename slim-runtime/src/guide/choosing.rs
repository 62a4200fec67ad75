//! Choosing what to remove.
//!
//! A [`Slimming`](crate::Slimming) says how much goes, which channels first, and what stays
//! whatever happens. [`plan`](crate::Prunable::plan) makes a [`Plan`](crate::Plan) of it and
//! changes nothing; the plan keeps the slimming, prints what was asked for and reached, and says
//! where a bound had its way.
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
//! | how much | | without it |
//! | --- | --- | --- |
//! | [`ratio(r)`](crate::Slimming::ratio) | the share `r` of the channels that may go, by the paper's rule; what [`slim(r)`](crate::Prunable::slim) does | one of these five is given |
//! | [`threshold(t)`](crate::Slimming::threshold) | those whose score is not above `t` | |
//! | [`top_k(k)`](crate::Slimming::top_k) | all but `k` | |
//! | [`params(s)`](crate::Slimming::params) | as few as leave at most the share `s` of the parameters | |
//! | [`macs(s, &cost)`](crate::Slimming::macs) | as few as leave at most the share `s` of the multiply-accumulates that [`cost`](crate::Prunable::cost) counted | |
//! | [`local()`](crate::Slimming::local) | of each layer by itself | of the whole network |
//! | [`layers(pattern, target)`](crate::Slimming::layers) | a ratio, threshold or top-k for some layers alone | all compete |
//!
//! | which first | | without it |
//! | --- | --- | --- |
//! | [`criterion(…)`](crate::Slimming::criterion) | [`BatchNormScale`](crate::criterion::BatchNormScale), [`L1`](crate::criterion::L1), [`L2`](crate::criterion::L2), [`Fpgm`](crate::criterion::Fpgm), [`Taylor`](crate::criterion::Taylor), [`Random`](crate::criterion::Random), or [one of your own](crate::criterion::Criterion) | \|γ\| of batch norms |
//! | [`masking(…)`](crate::Slimming::masking) | [what is zero](crate::criterion::Masking) when a channel is gone: γ and β, or every parameter | as the criterion asks: γ and β for \|γ\|, every parameter for all others |
//! | [`normalisation(…)`](crate::Slimming::normalisation) | scores of a layer divided by its [largest, mean or L2 norm](crate::criterion::Normalisation) | taken as they are |
//! | [`coupling(…)`](crate::Slimming::coupling) | the [largest, mean or sum](crate::Coupling) of the scores of channels that stay or go together | the largest |
//!
//! | what stays | | without it |
//! | --- | --- | --- |
//! | [`at_least(n)`](crate::Slimming::at_least) | `n` channels of each layer | one; two in each group of tch's own grouped convolutions |
//! | [`max_removed(s)`](crate::Slimming::max_removed) | all but the share `s` of each layer | no limit |
//! | [`round_to(n)`](crate::Slimming::round_to), [`round_down_to(n)`](crate::Slimming::round_down_to) | multiples of `n`, or all of a layer; never none | as it comes |
//! | [`keep(pattern)`](crate::Slimming::keep) | what these layers give; as `#[prune(keep)]` in the definition | |
//!
//! | what removed channels leave behind | | without it |
//! | --- | --- | --- |
//! | [`absorb()`](crate::Slimming::absorb) | what they still send on, act(β), goes into the next bias or running mean | it is dropped, as in the paper |
//! | [`absorb_after(act)`](crate::Slimming::absorb_after) | the same, with this [activation](crate::Activation) where nothing is said of one | |
//! | [`recalibrate(…)`](crate::recalibrate()) | batch-norm statistics, estimated anew from data after slimming | they stay |
//!
//! # How it is decided
//!
//! 1. The criterion scores the channels of each layer that it has a say in, and coupled channels
//!    get one score.
//! 2. Channels that may go are put in the order of their scores; of equal ones, the last in the
//!    data flow goes first.
//! 3. They go one after the other until the target is met. One whose going would leave any layer
//!    with fewer channels than a bound allows stays, and the next is tried. So all bounds hold at
//!    once, and none undoes another. What each layer is left with is kept up to date on the way,
//!    and so is what the network costs: a budget needs no repeated surgery.
//! 4. Rounding comes last, layer by layer. Up, the best of the channels that went come back; down,
//!    the worst of those that stayed go too. What comes back may spoil another layer's multiple,
//!    which is then rounded up as well. A budget, or a top-k, is that of the rounded network: how
//!    many go is found by bisection. It is never exceeded; what rounding leaves need not become
//!    less with every channel that goes, so now and then a somewhat larger network would have
//!    fitted too.
//!
//! What a target asked for and a bound refused is in the report, layer by layer, and in
//! [`Plan::bounded`](crate::Plan::bounded).
//!
//! # Which channels may go
//!
//! With |γ|, a channel may go if every reader sees zeros once γ and β are zero: networks need batch
//! norms, and the result is the paper's. With any other criterion whatever makes the channel counts
//! as zero too, its filter and bias, so networks without batch norms can be slimmed, and streams
//! that some layer reads raw. [`mask`](crate::Prunable::mask) sets just these to zero, and the
//! slimmed network computes what the masked one does.
//!
//! # What speaks against a plan
//!
//! [`Plan::warnings`](crate::Plan::warnings), which the report shows, where the scores are |γ|
//! themselves (no [`normalisation`](crate::Slimming::normalisation), no sum for a
//! [`coupling`](crate::Slimming::coupling)):
//!
//! * There is no gap: the largest |γ| that goes is more than a tenth of the median that stays.
//!   Training with sparsity drives unimportant γ to 1e-5 and below; where it did, those are what
//!   goes, and slimming is nearly free. Train longer, with a larger factor, or remove less.
//! * All |γ| are below 0.1 and none is near zero (a hundredth of the largest): weight decay has
//!   shrunk them all. It is an L2 penalty, which makes values small and not zero; leave γ out of
//!   it.
