//! What slimming did to a network, as one HTML file for a person to read.

mod fates;
mod page;
mod plots;

use anyhow::Result;
use slim_runtime::{Dependencies, Plan};

/// Everything that a report shows: plain data, from which [`html`](Self::html) makes a page.
#[derive(Debug)]
pub struct Report<'a> {
    /// The page's title: the network, and what was done with it.
    pub title: String,
    /// Facts about the run, by name: network, data set, slimming, criterion.
    pub what: Vec<(String, String)>,
    /// What is gone of the original network.
    pub plan: &'a Plan,
    /// The plans of passes by their names, the last pass in the last place; empty where `plan` is
    /// that of the only one.
    pub passes: Vec<(String, &'a Plan)>,
    /// The network on its way: from the original on, or through the last pass alone.
    pub stages: Vec<Stage>,
    /// Scores of channels by layer path, of the network before the last pass. They are of layers
    /// that its plan has scored.
    pub scores: Vec<(String, Vec<f64>)>,
    /// What the scores are: `|γ|`.
    pub score_name: String,
    /// A channel goes when its score is not above this, unless something else speaks for it; `None`
    /// where no one number decides.
    pub threshold: Option<f64>,
    /// Which channels stay or go together.
    pub dependencies: &'a Dependencies,
    /// What took how long, in seconds.
    pub times: Vec<(String, f64)>,
    /// What speaks against the result, beside the plan's own warnings.
    pub warnings: Vec<String>,
}

/// The network at one point of its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// `dense`, `masked`, `slimmed`, `fine-tuned`.
    pub name: String,
    /// Share of the test images that it tells right, in percent; `None` if nobody has looked.
    pub accuracy: Option<f64>,
    /// Trained values.
    pub parameters: i64,
    /// Multiply-accumulates for one image; `None` if they were not counted.
    pub macs: Option<i64>,
}

impl Report<'_> {
    /// The page: HTML with all that it needs in it. It has no script, fetches nothing, follows the
    /// reader's light or dark scheme, and is as wide as the window.
    ///
    /// # Errors
    /// Numbers that cannot be drawn: a NaN among accuracies or scores; scores of layers that the
    /// plan has not scored.
    pub fn html(&self) -> Result<String> {
        page::html(self)
    }

    /// The plan that begins where the stages do: of the original, or of the network before the last
    /// pass.
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
