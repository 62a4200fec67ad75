//! How much is to go, as command-line options.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args};
use slim_runtime::{Cost, LatencyTable, Slimming, Target};

/// The group of the options that say how much is to go.
pub const TARGET: &str = "how-much-goes";

/// Their heading in the help.
const HEADING: &str = "How much goes (one of these)";

/// How much is to go: one of these.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(group = ArgGroup::new(TARGET).multiple(false), next_help_heading = HEADING)]
pub(super) struct TargetOptions {
    /// Share of channels to remove, in [0, 1): the reference's rule [default: 0.5]
    #[arg(
        long,
        group = TARGET,
        allow_negative_numbers = true,
        value_name = "SHARE"
    )]
    percent: Option<f64>,

    /// Remove the channels whose score is not above this
    #[arg(
        long,
        group = TARGET,
        allow_negative_numbers = true,
        value_name = "SCORE"
    )]
    threshold: Option<f64>,

    /// Leave at most this number of channels
    #[arg(long, group = TARGET, value_name = "CHANNELS")]
    top_k: Option<usize>,

    #[command(flatten, next_help_heading = HEADING)]
    budget: BudgetOptions,
}

/// The reference's default ratio.
const PERCENT: f64 = 0.5;

impl TargetOptions {
    /// The share of channels to remove, if the target is a ratio.
    pub(super) fn ratio(&self) -> Option<f64> {
        match self {
            Self { threshold: None, top_k: None, percent, budget } if budget.is_none() => {
                Some(percent.unwrap_or(PERCENT))
            }
            _ => None,
        }
    }

    /// The file with the times of the layers, if the target is in latency.
    pub(super) fn latency_table(&self) -> Option<&Path> {
        self.budget.latency_table()
    }

    pub(super) fn slimming(
        &self,
        cost: impl FnOnce() -> Result<Cost>,
        latencies: impl FnOnce() -> Result<LatencyTable>,
    ) -> Result<Slimming> {
        Ok(match *self {
            Self { threshold: Some(threshold), .. } => Slimming::threshold(threshold),
            Self { top_k: Some(k), .. } => Slimming::top_k(k),
            Self { ref budget, .. } if !budget.is_none() => budget.slimming(cost, latencies)?,
            Self { percent, .. } => Slimming::ratio(percent.unwrap_or(PERCENT)),
        })
    }
}

/// A budget: one of these. Their group is [`TARGET`], which the options around them define.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct BudgetOptions {
    /// Leave at most this share of the parameters
    #[arg(long, group = TARGET, allow_negative_numbers = true, value_name = "SHARE")]
    params: Option<f64>,

    /// Leave at most this share of the multiply-accumulates
    #[arg(long, group = TARGET, allow_negative_numbers = true, value_name = "SHARE")]
    macs: Option<f64>,

    /// Leave at most this share of the latency for one image, as the times of the layers predict
    /// it; needs --latency-table
    #[arg(
        long,
        group = TARGET,
        allow_negative_numbers = true,
        value_name = "SHARE",
        requires = "latency_table"
    )]
    latency: Option<f64>,

    /// File with the times of the layers for --latency: measured and written where there is none,
    /// extended where it lacks layers of this network
    #[arg(long, value_name = "FILE", requires = "latency")]
    latency_table: Option<PathBuf>,
}

impl BudgetOptions {
    fn is_none(&self) -> bool {
        matches!(self, Self { params: None, macs: None, latency: None, .. })
    }

    /// Whether the budget is in latency.
    pub fn is_latency(&self) -> bool {
        self.latency.is_some()
    }

    /// The file with the times of the layers.
    pub fn latency_table(&self) -> Option<&Path> {
        self.latency_table.as_deref()
    }

    /// The budget as a slimming. `cost` counts the network if it is in MACs, and `latencies` times
    /// it if it is in latency.
    ///
    /// # Errors
    /// Errors of `cost` and `latencies`.
    pub fn slimming(
        &self,
        cost: impl FnOnce() -> Result<Cost>,
        latencies: impl FnOnce() -> Result<LatencyTable>,
    ) -> Result<Slimming> {
        match *self {
            Self { params: Some(share), .. } => Ok(Slimming::params(share)),
            Self { macs: Some(share), .. } => Ok(Slimming::macs(share, &cost()?)?),
            Self { latency: Some(share), .. } => Ok(Slimming::latency(share, &latencies()?)?),
            Self { params: None, macs: None, latency: None, .. } => {
                bail!("give a budget: --params, --macs or --latency")
            }
        }
    }
}

/// Parses `layer4=0.7`, `layer4=threshold=0.01`, `layer4=top_k=16`.
pub(super) fn layer_target(text: &str) -> Result<(&str, Target)> {
    let wrong = || {
        format!(
            "--layer {text}: it is a pattern of layers and a target, as in `--layer layer4=0.7`"
        )
    };
    let (pattern, number) = text.rsplit_once('=').with_context(wrong)?;
    let (pattern, target) = if let Some(pattern) = pattern.strip_suffix("=threshold") {
        (pattern, Target::Threshold(number.parse().with_context(wrong)?))
    } else if let Some(pattern) = pattern.strip_suffix("=top_k") {
        (pattern, Target::TopK(number.parse().with_context(wrong)?))
    } else {
        (pattern, Target::Ratio(number.parse().with_context(wrong)?))
    };
    ensure!(!pattern.is_empty(), wrong());
    Ok((pattern, target))
}
