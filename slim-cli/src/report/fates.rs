//! Scored channels of a report, and whether the plan keeps them.

use anyhow::{Context, Result, ensure};

use super::Report;
use crate::numbers::{grouped, score};

/// A scored channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fate {
    /// The magnitude of its score.
    pub(super) score: f64,
    /// Whether the plan keeps the channel.
    pub(super) stays: bool,
}

/// The channels of a layer.
#[derive(Debug)]
pub(super) struct Layer<'r> {
    pub(super) path: &'r str,
    pub(super) channels: Vec<Fate>,
}

/// The scored layers, and which of their channels the last pass keeps.
///
/// # Errors
/// A score that is not finite, or scores that do not fit the layer in the plan.
pub(super) fn of<'r>(report: &'r Report) -> Result<Vec<Layer<'r>>> {
    let plan = report.pass();
    let layer = |(path, scores): &'r (String, Vec<f64>)| {
        if let Some(position) = scores.iter().position(|score| !score.is_finite()) {
            anyhow::bail!("`{path}`: the score of channel {position} is {}", scores[position]);
        }
        let planned = plan.layer(path).and_then(|layer| layer.axis(&layer.scored.as_ref()?.axis));
        let axis = planned.with_context(|| format!("`{path}` has scores, and none in the plan"))?;
        ensure!(
            axis.width == scores.len(),
            "`{path}` has {} scores, and {} channels in the plan",
            scores.len(),
            axis.width
        );
        let mut channels: Vec<_> =
            scores.iter().map(|score| Fate { score: score.abs(), stays: false }).collect();
        axis.keep.iter().for_each(|position| channels[position].stays = true);
        Ok(Layer { path, channels })
    };
    report.scores.iter().map(layer).collect()
}

/// Says how many channels are removed, and for how many the threshold does not decide.
pub(super) fn summary(report: &Report, layers: &[Layer]) -> String {
    let count = |of: &dyn Fn(&Fate) -> bool| {
        layers.iter().flat_map(|layer| &layer.channels).filter(|fate| of(fate)).count() as i64
    };
    let (all, going) = (count(&|_| true), count(&|fate| !fate.stays));
    let pass = if report.passes.is_empty() { "" } else { " in the last pass" };
    let mut said = format!(
        "{} of {} channels go{pass}, by their {}.",
        grouped(going),
        grouped(all),
        report.score_name
    );
    if let Some(threshold) = report.threshold {
        let (stay, go) = (
            |count| if count == 1 { "stays" } else { "stay" },
            |count| if count == 1 { "goes" } else { "go" },
        );
        let below = count(&|fate| fate.score <= threshold);
        let (spared, taken) = (
            count(&|fate| fate.score <= threshold && fate.stays),
            count(&|fate| fate.score > threshold && !fate.stays),
        );
        said += &format!(" {} are not above the threshold, {}", grouped(below), score(threshold));
        said += &match (spared, taken) {
            (0, 0) => ".".to_owned(),
            (_, 0) => format!("; {} of them {} all the same.", grouped(spared), stay(spared)),
            (0, _) => format!("; {} above it {}, too.", grouped(taken), go(taken)),
            _ => format!(
                "; {} of them {} all the same, and {} above it {}.",
                grouped(spared),
                stay(spared),
                grouped(taken),
                go(taken)
            ),
        };
        if spared + taken > 0 {
            said += " Bounds, what is kept, coupled channels and ties decide that.";
        }
    } else {
        said += " No one threshold decides.";
    }
    let zeros = count(&|fate| fate.score == 0.);
    if zeros > 0 {
        said += &format!(" {} scores are zero.", grouped(zeros));
    }
    said
}
