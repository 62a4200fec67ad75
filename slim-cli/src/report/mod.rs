//! Reports: what slimming did to a network, as one HTML file.

mod fates;
mod page;
mod plots;
mod sensitivity;

use anyhow::Result;
pub use sensitivity::SensitivityReport;
use slim_runtime::{Dependencies, Plan};

/// Everything that a report shows: plain data, from which [`html`](Self::html) makes a page.
#[derive(Debug)]
pub struct Report<'a> {
    /// The page's title: the network, and what was done with it.
    pub title: String,
    /// Facts about the run, by name: network, data set, slimming, criterion.
    pub what: Vec<(String, String)>,
    /// Everything that was removed from the original network.
    pub plan: &'a Plan,
    /// The plans of the passes with their names, the last pass last; empty if `plan` is the plan of
    /// the only pass.
    pub passes: Vec<(String, &'a Plan)>,
    /// The network at each stage: from the original on, or only through the last pass.
    pub stages: Vec<Stage>,
    /// Scores of channels by layer path, of the network before the last pass. The plan of that pass
    /// has scored these layers.
    pub scores: Vec<(String, Vec<f64>)>,
    /// Name of the scores: `|γ|`.
    pub score_name: String,
    /// A channel is removed if its score is at most this threshold, unless another rule decides;
    /// `None` if there is no single threshold.
    pub threshold: Option<f64>,
    /// Which channels are removed together.
    pub dependencies: &'a Dependencies,
    /// Duration of each step, in seconds.
    pub times: Vec<(String, f64)>,
    /// Warnings about the result, besides the plan's own.
    pub warnings: Vec<String>,
}

/// The network at one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// `dense`, `masked`, `slimmed`, `fine-tuned`.
    pub name: String,
    /// Accuracy on the test images, in percent; `None` if it was not measured.
    pub accuracy: Option<f64>,
    /// Number of trained values.
    pub parameters: i64,
    /// Multiply-accumulates for one image; `None` if they were not counted.
    pub macs: Option<i64>,
}

impl Stage {
    /// The accuracy as the page shows it: `99.17 %`, or that it is unknown.
    fn shown_accuracy(&self) -> String {
        self.accuracy.map_or("unknown".to_owned(), |accuracy| format!("{accuracy:.2} %"))
    }
}

impl Report<'_> {
    /// The page: self-contained HTML. It has no script, fetches nothing, follows the reader's light
    /// or dark scheme, and is as wide as the window.
    ///
    /// # Errors
    /// Numbers that cannot be drawn: a NaN among accuracies or scores; scores of layers that the
    /// plan has not scored.
    pub fn html(&self) -> Result<String> {
        page::html(self)
    }

    /// The plan that begins where the stages begin: at the original network, or at the network
    /// before the last pass.
    fn way(&self) -> &Plan {
        let begins = self
            .stages
            .first()
            .is_none_or(|stage| stage.parameters == self.plan.parameters().before);
        if begins { self.plan } else { self.pass() }
    }

    /// The plan of the last pass.
    fn pass(&self) -> &Plan {
        self.passes.last().map_or(self.plan, |(_, plan)| plan)
    }
}

#[cfg(test)]
mod tests;
