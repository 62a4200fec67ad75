//! How much is to go, as command-line options.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use slim_runtime::{Cost, LatencyTable, Slimming, Target};

/// How much is to go: one of these.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(super) struct TargetOptions {
    /// Share of channels to remove, in [0, 1): the reference's rule [default: 0.5]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        help_heading = "How much goes (one of these)"
    )]
    percent: Option<f64>,

    /// Remove the channels whose score is not above this
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SCORE",
        help_heading = "How much goes (one of these)"
    )]
    threshold: Option<f64>,

    /// Leave at most this number of channels
    #[arg(long, value_name = "CHANNELS", help_heading = "How much goes (one of these)")]
    top_k: Option<usize>,

    /// Leave at most this share of the parameters
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        help_heading = "How much goes (one of these)"
    )]
    params: Option<f64>,

    /// Leave at most this share of the multiply-accumulates
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        help_heading = "How much goes (one of these)"
    )]
    macs: Option<f64>,

    /// Leave at most this share of the latency for one image, as the times of the layers predict
    /// it; needs --latency-table
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        requires = "latency_table",
        help_heading = "How much goes (one of these)"
    )]
    latency: Option<f64>,
}

/// The reference's default ratio.
const PERCENT: f64 = 0.5;

impl TargetOptions {
    /// The share of channels to remove, if the target is a ratio.
    pub(super) fn ratio(&self) -> Option<f64> {
        match self {
            TargetOptions {
                threshold: None,
                top_k: None,
                params: None,
                macs: None,
                latency: None,
                percent,
            } => Some(percent.unwrap_or(PERCENT)),
            _ => None,
        }
    }

    pub(super) fn slimming(
        &self,
        cost: impl FnOnce() -> Result<Cost>,
        latencies: impl FnOnce() -> Result<LatencyTable>,
    ) -> Result<Slimming> {
        Ok(match self {
            TargetOptions { threshold: Some(threshold), .. } => Slimming::threshold(*threshold),
            TargetOptions { top_k: Some(k), .. } => Slimming::top_k(*k),
            TargetOptions { params: Some(share), .. } => Slimming::params(*share),
            TargetOptions { macs: Some(share), .. } => Slimming::macs(*share, &cost()?)?,
            TargetOptions { latency: Some(share), .. } => Slimming::latency(*share, &latencies()?)?,
            TargetOptions { percent, .. } => Slimming::ratio(percent.unwrap_or(PERCENT)),
        })
    }
}

/// A budget for a search: one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct BudgetOptions {
    /// Leave at most this share of the parameters
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        help_heading = "Budget (one of these)"
    )]
    params: Option<f64>,

    /// Leave at most this share of the multiply-accumulates
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        help_heading = "Budget (one of these)"
    )]
    macs: Option<f64>,

    /// Leave at most this share of the latency for one image, as the times of the layers predict
    /// it; needs --latency-table
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "SHARE",
        requires = "latency_table",
        help_heading = "Budget (one of these)"
    )]
    latency: Option<f64>,
}

impl BudgetOptions {
    /// Whether the budget is in latency.
    pub fn is_latency(&self) -> bool {
        self.latency.is_some()
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
            Self { params: None, macs: None, latency: None } => {
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
