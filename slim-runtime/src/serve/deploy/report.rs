//! The report of a deployment.

use std::fmt;

use serde::Serialize;

use super::layout::Layout;
use super::trial::LayoutCandidate;
use crate::error::CheckError;
use crate::numeric::Quartiles;
use crate::serve::benchmark::{faster, with_spread};
use crate::table::{MOST_LINES, table};
use crate::{Error, Result};

/// Another layout is chosen only if its latency is below this share of the contiguous one's: a
/// smaller gain is noise.
const WORTH_IT: f64 = 0.97;

/// The result of [`deploy`](crate::deploy()). Prints as a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Deployed {
    /// Every batch norm, in the order of the data flow.
    pub norms: Vec<DeployedNorm>,
    /// The layout of the weights now.
    pub layout: Layout,
    /// Every layout that was considered, with its latency.
    pub layouts: Vec<LayoutTrial>,
    /// Latency of the forward pass on the sample before deploying, in seconds.
    pub before: Quartiles,
    /// Latency after deploying, in seconds.
    pub after: Quartiles,
    /// How many times as fast the network has become, in the rounds in which it was measured in
    /// both forms.
    pub times_as_fast: Quartiles,
    /// The largest difference of an output from the output before.
    pub difference: f64,
    /// The largest magnitude of an output before.
    pub magnitude: f64,
}

/// The outcome for one batch norm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeployedNorm {
    /// Field path of the batch norm.
    pub path: String,
    /// The outcome.
    pub fate: NormOutcome,
}

/// The outcome of folding a batch norm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NormOutcome {
    /// It is folded into the layer in front of it or behind it, and costs nothing.
    Folded {
        /// Field path of the layer.
        into: String,
    },
    /// It is folded into such a layer, but tch still computes it as an identity. Built
    /// with [`nn`](crate::nn), it would cost nothing.
    Identity {
        /// Field path of the layer.
        into: String,
    },
    /// It stays as it was.
    Left {
        /// Why.
        reason: String,
    },
}

/// The measurement of one layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayoutTrial {
    /// The layout.
    pub layout: Layout,
    /// Latency of the forward pass on the sample, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quartiles>,
    /// Why it could not be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
}

impl Deployed {
    /// Number of batch norms that cost nothing any more.
    pub fn folded(&self) -> usize {
        self.norms.iter().filter(|norm| matches!(norm.fate, NormOutcome::Folded { .. })).count()
    }

    /// Whether the network may be as fast as before: its gain is no larger than the noise of the
    /// measurement. In at least a quarter of the rounds it was slower, and in at least a quarter
    /// faster.
    pub fn is_within_noise(&self) -> bool {
        self.times_as_fast.lower <= 1. && self.times_as_fast.upper >= 1.
    }
}

/// Chooses the fastest layout.
///
/// # Errors
/// [`CheckError::Unverified`](crate::error::CheckError::Unverified) when the network could not be
/// measured even in its old layout.
pub(super) fn report(norms: Vec<DeployedNorm>, candidates: &[LayoutCandidate]) -> Result<Deployed> {
    let of =
        |layout: Option<Layout>| candidates.iter().find(|candidate| candidate.layout == layout);
    let measured =
        |layout| of(layout).and_then(|candidate| Some((candidate, candidate.latency()?)));
    let unstable = || {
        Error::Check(CheckError::Unverified {
            reason: "the same network fails now and then; look for a panic in its forward pass"
                .to_owned(),
        })
    };
    let ((original, before), (contiguous, plain)) =
        measured(None).zip(measured(Some(Layout::Contiguous))).ok_or_else(unstable)?;
    let others = [Layout::ChannelsLast, Layout::Packed]
        .into_iter()
        .filter_map(|layout| measured(Some(layout)));
    let faster = others
        .filter(|(_, latency)| latency.median < WORTH_IT * plain.median)
        .min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
    let (kept, after) = faster.unwrap_or((contiguous, plain));
    let (layout, closeness) = kept.layout.zip(kept.closeness).ok_or_else(unstable)?;
    let trial = |layout| {
        let candidate = of(Some(layout))?;
        Some(LayoutTrial {
            layout,
            latency: candidate.latency(),
            out: candidate.form.as_ref().err().cloned(),
        })
    };
    let layouts = [Layout::Contiguous, Layout::ChannelsLast, Layout::Packed]
        .into_iter()
        .filter_map(trial)
        .collect();
    Ok(Deployed {
        norms,
        layout,
        layouts,
        before,
        after,
        times_as_fast: kept.times_as_fast_as(original),
        difference: closeness.difference,
        magnitude: closeness.magnitude,
    })
}

impl fmt::Display for Deployed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = ["as it was".to_owned(), with_spread(&self.before), String::new()];
        let rows = self.layouts.iter().map(|trial| {
            let note = match &trial.out {
                Some(reason) => format!("out: {reason}"),
                None if trial.layout == self.layout => "chosen".to_owned(),
                None => String::new(),
            };
            [
                trial.layout.to_string(),
                trial.latency.as_ref().map(with_spread).unwrap_or_default(),
                note,
            ]
        });
        writeln!(
            f,
            "{}",
            table(["layout", "latency (quartiles)", ""], 3, std::iter::once(before).chain(rows))
                .trim_fmt()
        )?;
        let (folded, all) = (self.folded(), self.norms.len());
        let s = if all == 1 { "" } else { "s" };
        writeln!(f, "{folded} of {all} batch norm{s} folded")?;
        let others =
            || self.norms.iter().filter(|norm| !matches!(norm.fate, NormOutcome::Folded { .. }));
        for DeployedNorm { path, fate } in others().take(MOST_LINES) {
            match fate {
                NormOutcome::Identity { into } => {
                    writeln!(
                        f,
                        "`{path}`: folded into `{into}`, but tch still runs it as an identity; build it with `slim_runtime::nn`, which skips it"
                    )?;
                }
                NormOutcome::Left { reason } => writeln!(f, "`{path}` is left: {reason}")?,
                NormOutcome::Folded { .. } => {}
            }
        }
        if let more @ 1.. = others().count().saturating_sub(MOST_LINES) {
            writeln!(f, "and {more} more that are not folded")?;
        }
        writeln!(
            f,
            "outputs (up to {:.3e}) differ by {:.1e} at most",
            self.magnitude, self.difference
        )?;
        let noise = if self.is_within_noise() { ": within noise" } else { "" };
        write!(f, "{} times as fast{noise}", faster(&self.times_as_fast))
    }
}
