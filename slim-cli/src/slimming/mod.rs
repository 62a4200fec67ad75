//! [`Slimming`] as command-line options.

mod target;

use std::path::Path;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::json;
use slim_runtime::criterion::{
    BatchNormScale, Criterion, Fisher, Fpgm, GateTaylor, GroupTaylor, L1, L2, Lamp, Masking,
    MeanActivation, Normalisation, Random, ScaledNorm, Taylor,
};
use slim_runtime::{Activation, Cost, Coupling, LatencyTable, Slimming};

pub use target::{BudgetOptions, TARGET};
use target::{TargetOptions, layer_target};

/// Batches of training images for criteria, if nothing else is said.
pub const TAYLOR_BATCHES: usize = 16;
/// Batches of training images for repairs, if nothing else is said.
pub const REPAIR_BATCHES: usize = 8;

/// How many channels go, which, and within which bounds.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("repair").multiple(true))]
pub struct SlimmingOptions {
    #[command(flatten)]
    target: TargetOptions,

    /// Apply the target to each layer by itself
    #[arg(long, help_heading = "Which channels go")]
    pub local: bool,

    /// Apply the target to each class of isomorphic layers by itself: the first convolutions of
    /// all blocks, say, or residual streams of as many blocks
    #[arg(long, conflicts_with = "local", help_heading = "Which channels go")]
    pub isomorphic: bool,

    /// A target of their own for the layers that match PATTERN: a ratio, `layer4=0.7`, or
    /// `layer4=threshold=0.01`, `layer4=top_k=16`
    #[arg(long, value_name = "PATTERN=TARGET", help_heading = "Which channels go")]
    pub layer: Vec<String>,

    /// Which channels go first, and within which bounds.
    #[command(flatten)]
    pub ranking: RankingOptions,

    /// Solve the weights of layers that lose inputs anew, by least squares on training images, so
    /// that their outputs are nearest to what they were
    #[arg(long, group = "repair", conflicts_with_all = ["absorb", "absorb_after"], help_heading = "Repair")]
    pub reconstruct: bool,

    /// Estimate the statistics of batch norms anew, on training images
    #[arg(long, group = "repair", help_heading = "Repair")]
    pub recalibrate: bool,

    /// Batches of 64 training images for `--reconstruct` and `--recalibrate`
    #[arg(long, value_name = "BATCHES", requires = "repair", default_value_t = REPAIR_BATCHES, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Repair")]
    pub repair_batches: usize,
}

/// Which channels go first, and within which bounds.
#[derive(Debug, Clone, Args)]
pub struct RankingOptions {
    /// Keep all channels that the layers that match PATTERN make
    #[arg(long, value_name = "PATTERN", help_heading = "Which channels go")]
    pub keep: Vec<String>,

    /// What ranks the channels [default: scale; l2 for a network without batch norms]
    #[arg(long, value_enum, help_heading = "Which channels go")]
    pub criterion: Option<CriterionName>,

    /// Batches of 64 training images for `--criterion taylor`, `gate-taylor`, `group-taylor`,
    /// `fisher` and `mean-activation`
    #[arg(long, value_name = "BATCHES", default_value_t = TAYLOR_BATCHES, help_heading = "Which channels go")]
    pub taylor_batches: usize,

    /// How scores of different layers are made comparable: none, or by the layer's max, mean or l2
    /// [default: none; mean for a network without batch norms]
    #[arg(long, value_parser = named::<Normalisation>, help_heading = "Which channels go")]
    pub normalisation: Option<Normalisation>,

    /// The score of channels that stay or go together, as in a residual stream: the max, mean or
    /// sum of theirs
    #[arg(long, value_parser = named::<Coupling>, default_value = "max", help_heading = "Which channels go")]
    pub coupling: Coupling,

    /// What masking sets to zero: batch_norm (γ and β), or parameters (all that make the channel)
    /// [default: what the criterion asks for]
    #[arg(long, value_parser = named::<Masking>, help_heading = "Which channels go")]
    pub masking: Option<Masking>,

    /// Every layer keeps at least this many channels
    #[arg(long, value_name = "CHANNELS", help_heading = "Bounds")]
    pub at_least: Option<usize>,

    /// No layer loses more than this share of its channels
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE", help_heading = "Bounds")]
    pub max_removed: Option<f64>,

    /// Leave each layer a multiple of this many channels, rounded up
    #[arg(
        long,
        value_name = "MULTIPLE",
        conflicts_with = "round_down_to",
        help_heading = "Bounds"
    )]
    pub round_to: Option<usize>,

    /// The same, rounded down
    #[arg(long, value_name = "MULTIPLE", help_heading = "Bounds")]
    pub round_down_to: Option<usize>,

    /// Add the constants that removed channels still carry to the layers that read them
    #[arg(long, help_heading = "Repair")]
    pub absorb: bool,

    /// The same, assuming this activation wherever the network does not declare one: relu,
    /// hardswish, leaky_relu=0.01 …
    #[arg(long, value_name = "ACTIVATION", value_parser = named::<Activation>, conflicts_with = "absorb", help_heading = "Repair")]
    pub absorb_after: Option<Activation>,
}

/// The criteria, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CriterionName {
    /// |γ| of the batch norms (Network Slimming)
    Scale,
    /// |γ| of the batch norms, times the L2 norm of the filters in front
    ScaledNorm,
    /// L1 norm of the filters
    L1,
    /// L2 norm of the filters
    L2,
    /// Distance to the other filters of the layer (FPGM)
    Fpgm,
    /// Estimated change of the loss, from gradients on training data
    Taylor,
    /// The same, at the outputs of batch norms
    GateTaylor,
    /// The same, for all that goes together with a channel
    GroupTaylor,
    /// Estimated change of the loss by single weights, to second order (Optimal Brain Damage)
    Fisher,
    /// L2 norm of the filters, relative to the filters of the layer that are not smaller
    Lamp,
    /// Mean absolute output on training data
    MeanActivation,
    /// Random scores: a baseline
    Random,
}

/// What a criterion reads beside the weights. Training images are needed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Gradients of the loss.
    Gradients,
    /// Mean activations.
    Activations,
}

impl CriterionName {
    /// What it reads that is computed from training images.
    pub fn reads(self) -> Option<Reads> {
        match self {
            Self::Taylor | Self::GateTaylor | Self::GroupTaylor | Self::Fisher => {
                Some(Reads::Gradients)
            }
            Self::MeanActivation => Some(Reads::Activations),
            Self::Scale
            | Self::ScaledNorm
            | Self::L1
            | Self::L2
            | Self::Fpgm
            | Self::Lamp
            | Self::Random => None,
        }
    }

    /// The slimming by this criterion. `seed` is that of the random one.
    fn applied_to(self, slimming: Slimming, seed: u64) -> Slimming {
        match self {
            CriterionName::Scale => slimming.criterion(BatchNormScale),
            CriterionName::ScaledNorm => slimming.criterion(ScaledNorm),
            CriterionName::L1 => slimming.criterion(L1),
            CriterionName::L2 => slimming.criterion(L2),
            CriterionName::Fpgm => slimming.criterion(Fpgm),
            CriterionName::Taylor => slimming.criterion(Taylor),
            CriterionName::GateTaylor => slimming.criterion(GateTaylor),
            CriterionName::GroupTaylor => slimming.criterion(GroupTaylor),
            CriterionName::Fisher => slimming.criterion(Fisher),
            CriterionName::Lamp => slimming.criterion(Lamp),
            // The activations are recorded when the network is pruned.
            CriterionName::MeanActivation => slimming.criterion(MeanActivation::default()),
            CriterionName::Random => slimming.criterion(Random { seed }),
        }
    }

    /// The criterion of a slimming, if it reads training images.
    pub fn reading_images(slimming: &Slimming) -> Option<Self> {
        let name = slimming.criterion.name();
        let reading = [
            (Self::Taylor, Taylor.name()),
            (Self::GateTaylor, GateTaylor.name()),
            (Self::GroupTaylor, GroupTaylor.name()),
            (Self::Fisher, Fisher.name()),
            (Self::MeanActivation, MeanActivation::default().name()),
        ];
        reading.into_iter().find(|(_, known)| *known == name).map(|(criterion, _)| criterion)
    }

    /// The same slimming by a criterion that needs no training images and scores the same channels.
    pub fn without_images(self, slimming: Slimming) -> Slimming {
        match self {
            Self::Taylor | Self::GroupTaylor | Self::Fisher | Self::MeanActivation => {
                slimming.criterion(L1)
            }
            Self::GateTaylor => slimming.criterion(BatchNormScale),
            _ => slimming,
        }
    }
}

impl SlimmingOptions {
    /// Whether weights or statistics are corrected on training images.
    pub fn repairs(&self) -> bool {
        self.reconstruct || self.recalibrate
    }

    /// The share of channels to remove, if the target is a ratio.
    pub fn ratio(&self) -> Option<f64> {
        self.target.ratio()
    }

    /// The file with the times of the layers, if the target is in latency.
    pub fn latency_table(&self) -> Option<&Path> {
        self.target.latency_table()
    }

    /// The [`Slimming`] for these options. `cost` counts the network if the target is in MACs, and
    /// `latencies` times it if the target is in latency; `seed` is that of the random criterion.
    ///
    /// # Errors
    /// A `--layer` that is not `PATTERN=TARGET`; errors of `cost` and `latencies`. Values that a
    /// [`Slimming`] cannot have are errors of planning.
    pub fn slimming(
        &self,
        has_batch_norms: bool,
        seed: u64,
        cost: impl FnOnce() -> Result<Cost>,
        latencies: impl FnOnce() -> Result<LatencyTable>,
    ) -> Result<Slimming> {
        let mut slimming = self.target.slimming(cost, latencies)?;
        if self.local {
            slimming = slimming.local();
        }
        if self.isomorphic {
            slimming = slimming.isomorphic();
        }
        for layer in &self.layer {
            let (pattern, target) = layer_target(layer)?;
            slimming = slimming.layers(pattern, target);
        }
        Ok(self.ranking.applied_to(slimming, has_batch_norms, seed))
    }
}

impl RankingOptions {
    /// The slimming with these choices. `seed` is that of the random criterion.
    pub fn applied_to(&self, slimming: Slimming, has_batch_norms: bool, seed: u64) -> Slimming {
        let slimming = ranked_by_default(slimming, has_batch_norms);
        let mut slimming = match self.criterion {
            None => slimming,
            Some(criterion) => criterion.applied_to(slimming, seed),
        };
        slimming = self.normalisation.into_iter().fold(slimming, Slimming::normalisation);
        slimming = slimming.coupling(self.coupling);
        slimming = self.masking.into_iter().fold(slimming, Slimming::masking);
        slimming = self.keep.iter().fold(slimming, Slimming::keep);
        slimming = self.at_least.into_iter().fold(slimming, Slimming::at_least);
        slimming = self.max_removed.into_iter().fold(slimming, Slimming::max_removed);
        slimming = self.round_to.into_iter().fold(slimming, Slimming::round_to);
        slimming = self.round_down_to.into_iter().fold(slimming, Slimming::round_down_to);
        self.absorbing(slimming)
    }

    /// The slimming with the choices of absorption.
    pub fn absorbing(&self, slimming: Slimming) -> Slimming {
        let slimming = self.absorb_after.into_iter().fold(slimming, Slimming::absorb_after);
        if self.absorb { slimming.absorb() } else { slimming }
    }
}

/// The slimming as it ranks where nothing else is said: by |γ| of batch norms; without any, by the
/// L2 norms of filters. These grow with the number of weights, so layers of different kinds compare
/// only by the layer's mean.
pub fn ranked_by_default(slimming: Slimming, has_batch_norms: bool) -> Slimming {
    match has_batch_norms {
        true => slimming,
        false => slimming.criterion(L2).normalisation(Normalisation::Mean),
    }
}

/// Parses a choice of the library by its name in files; with a parameter, `leaky_relu=0.01`.
fn named<T: DeserializeOwned>(text: &str) -> Result<T> {
    let value = match text.split_once('=') {
        None => json!(text),
        Some((name, parameter)) => json!({ name: parameter.parse::<f64>()? }),
    };
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use clap::Parser;
    use slim_runtime::{Direction, Target};

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        slimming: SlimmingOptions,
    }

    fn asked(options: &str) -> Result<Slimming> {
        let program =
            Program::try_parse_from(["program"].into_iter().chain(options.split_whitespace()))?;
        program.slimming.slimming(true, 7, || bail!("no cost"), || bail!("no table"))
    }

    #[test]
    fn options_are_the_librarys_choices() -> Result<()> {
        assert_eq!(asked("")?, Slimming::ratio(0.5));
        assert_eq!(asked("--percent 0.7")?, Slimming::ratio(0.7));
        assert_eq!(asked("--threshold 0.01 --local")?, Slimming::threshold(0.01).local());
        assert_eq!(
            asked("--params 0.5 --isomorphic --criterion scaled-norm")?,
            Slimming::params(0.5).criterion(ScaledNorm).isomorphic()
        );
        assert_eq!(asked("--criterion group-taylor")?, Slimming::ratio(0.5).criterion(GroupTaylor));
        assert_eq!(
            asked("--criterion mean-activation")?,
            Slimming::ratio(0.5).criterion(MeanActivation::default())
        );
        assert_eq!(
            asked("--params 0.4 --criterion random")?,
            Slimming::params(0.4).criterion(Random { seed: 7 })
        );
        assert_eq!(
            asked("--top-k 9 --coupling sum --normalisation l2")?,
            Slimming::top_k(9).coupling(Coupling::Sum).normalisation(Normalisation::L2)
        );
        let bounded = Slimming::ratio(0.5).at_least(2).max_removed(0.8).round_down_to(8).absorb();
        assert_eq!(asked("--at-least 2 --max-removed 0.8 --round-down-to 8 --absorb")?, bounded);
        assert_eq!(
            bounded.bounds.round_to.map(|rounding| rounding.direction),
            Some(Direction::Down)
        );
        let layers = Slimming::ratio(0.5)
            .layers("layer4", Target::Ratio(0.7))
            .layers("a=b", Target::Ratio(0.1))
            .keep("stem")
            .keep("fc*");
        assert_eq!(asked("--layer layer4=0.7 --layer a=b=0.1 --keep stem --keep fc*")?, layers);
        let layers = Slimming::ratio(0.5)
            .layers("a", Target::Threshold(0.01))
            .layers("b.*", Target::TopK(16));
        assert_eq!(asked("--layer a=threshold=0.01 --layer b.*=top_k=16")?, layers);
        let repaired = Slimming::ratio(0.5)
            .masking(Masking::Parameters)
            .absorb_after(Activation::LeakyRelu(0.01));
        assert_eq!(asked("--masking parameters --absorb-after leaky_relu=0.01")?, repaired);
        assert_eq!(
            asked("--absorb-after relu")?,
            Slimming::ratio(0.5).absorb_after(Activation::Relu)
        );
        Ok(())
    }

    #[test]
    fn a_network_without_batch_norms_is_ranked_by_its_weights() -> Result<()> {
        let asked = |options: &str| {
            let words = ["program"].into_iter().chain(options.split_whitespace());
            let program = Program::try_parse_from(words)?;
            program.slimming.slimming(false, 7, || bail!("no cost"), || bail!("no table"))
        };
        let by_weights = Slimming::ratio(0.5).criterion(L2).normalisation(Normalisation::Mean);
        assert_eq!(asked("")?, by_weights);
        assert_eq!(
            asked("--criterion l1 --normalisation none")?,
            Slimming::ratio(0.5).criterion(L1)
        );
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_said() {
        let refused = |options: &str| {
            asked(options).err().map(|error| format!("{error:#}")).unwrap_or_default()
        };
        assert!(refused("--percent 0.5 --top-k 3").contains("cannot be used with"));
        assert!(refused("--round-to 8 --round-down-to 8").contains("cannot be used with"));
        assert!(refused("--local --isomorphic").contains("cannot be used with"));
        assert!(refused("--layer layer4").contains("as in `--layer layer4=0.7`"));
        assert!(
            refused("--layer layer4=most").contains("as in `--layer layer4=0.7`: invalid float")
        );
        assert!(
            refused("--layer layer4=top_k=0.5")
                .contains("as in `--layer layer4=0.7`: invalid digit")
        );
        assert!(
            refused("--coupling most")
                .contains("unknown variant `most`, expected one of `max`, `mean`, `sum`")
        );
        assert!(refused("--absorb --absorb-after relu").contains("cannot be used with"));
        assert_eq!(refused("--macs 0.5"), "no cost");
        assert_eq!(refused("--latency 0.5 --latency-table a.json"), "no table");
        assert!(refused("--latency 0.5").contains("--latency-table <FILE>"));
        assert!(refused("--latency-table a.json").contains("--latency <SHARE>"));
        assert!(refused("--repair-batches 2").contains("--reconstruct|--recalibrate"));
        assert!(asked("--reconstruct --recalibrate --repair-batches 2").is_ok());
    }
}
