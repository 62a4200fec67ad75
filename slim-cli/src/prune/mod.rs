//! Pruning as in the reference's script: threshold, masks, cfg, surgery, with measurements at each
//! stage.

mod images;
mod job;
pub(crate) mod latency;
mod page;
mod repair;
mod txt;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use slim_runtime::criterion::LayerScores;
use slim_runtime::{
    Change, Dependencies, LatencyCheck, OutputError, Plan, Prunable, Slimmed, Slimming,
};
use tch::Tensor;
use tch::nn::ModuleT;

pub(crate) use images::{calibration, with_images};
pub use job::Job;
pub(crate) use repair::nothing_to_recalibrate;
pub use repair::{Repair, Repaired};
pub use txt::prune_txt;

use crate::files::{Folder, Form};
use crate::model::Model;
use crate::network::Net;
use crate::numbers::grouped;
use crate::report::Report;
use crate::train::Score;

/// The file of the pruned network.
pub const PRUNED: &str = "pruned.safetensors";

/// Name of the files of the pruned network, without their endings.
pub const STEM: &str = "pruned";

/// A pruning of a network, with measurements at each stage.
#[derive(Debug)]
pub struct Pruning {
    /// What was removed from the network as it was read.
    pub slimmed: Slimmed,
    /// Everything that was removed from the original network, with the names of its variables.
    pub plan: Plan,
    /// The score of each channel before pruning.
    pub scores: Vec<LayerScores>,
    /// Which channels are removed together.
    pub dependencies: Dependencies,
    /// What was corrected without training.
    pub repaired: Repaired,
    /// The network as it was read, masked, and slimmed; the last with the repair.
    pub stages: [Stage; 3],
    /// Difference between the outputs of the slimmed and the masked network, on the sample.
    pub closeness: OutputError,
    /// The latency for one image before and after, predicted and measured, if the target is in
    /// latency.
    pub latency: Option<LatencyCheck>,
    /// Time of scoring, choosing and planning.
    pub planning: Duration,
    /// Time of cutting the weights, and of the repair.
    pub surgery: Duration,
}

/// The network at one stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Name of the stage.
    pub name: &'static str,
    /// Score on the test images, if there are any.
    pub score: Option<Score>,
    /// Number of trained values.
    pub parameters: i64,
    /// Multiply-accumulates for one image; `None` if a layer cannot be counted.
    pub macs: Option<i64>,
}

/// Prunes a network in place: plans, measures the masked network, checks on a sample that the
/// slimmed network computes the same as the masked one, slims with this repair, and measures again.
///
/// `sample` is a batch of images, `[N, 3, H, W]`; `measure` returns the score of a network, or
/// `None` if scores are not wanted. For a network that was pruned before, the plan still begins at
/// the original network.
///
/// # Errors
/// Planning, verification, surgery or `measure` fails. The network is unchanged if the error comes
/// before the end of surgery.
pub fn prune(
    model: &mut Model,
    slimming: &Slimming,
    sample: &Tensor,
    repair: &Repair,
    mut measure: impl FnMut(&Net) -> Result<Option<Score>>,
) -> Result<Pruning> {
    let cost = model.net.cost(|net| net.forward_t(&sample.narrow(0, 0, 1), false))?;
    let before = if model.slimmed.is_none() { "dense" } else { "pruned before" };
    let stage = |name, score, parameters, macs| Stage { name, score, parameters, macs };

    let start = Instant::now();
    let plan = model.net.plan(slimming).map_err(|error| model.explained(error))?;
    let planning = start.elapsed();

    let scores = model.net.scores(slimming)?;
    let dependencies = model.net.dependencies()?;
    let dense = stage(before, measure(&model.net)?, plan.parameters().before, cost.macs().ok());
    let masked = stage(
        "masked",
        plan.masked(&mut model.net, &mut measure)??,
        plan.parameters().before,
        cost.macs().ok(),
    );
    let closeness = plan
        .verify(sample, |net: &Net, images| net.forward_t(images, false))
        .check(&mut model.net)?;

    let start = Instant::now();
    let (slimmed, repaired) = repair.apply(&mut model.net, &plan)?;
    let surgery = start.elapsed();

    let whole = match &model.slimmed {
        Some(first) => first.then(&slimmed)?,
        None => slimmed.clone(),
    };
    let plan = whole.plan().with_variables(&model.net, &model.vs)?;
    model.slimmed = Some(whole);
    let after = cost.after(slimmed.plan())?;
    let name = if repair.is_some() { "repaired" } else { "slimmed" };
    let last = stage(name, measure(&model.net)?, after.parameters(), after.macs().ok());
    Ok(Pruning {
        slimmed,
        plan,
        scores,
        dependencies,
        repaired,
        stages: [dense, masked, last],
        closeness,
        latency: None,
        planning,
        surgery,
    })
}

impl Pruning {
    /// Accuracy of the masked network, as a share of 1.
    fn masked_accuracy(&self) -> Option<f64> {
        let score = self.stages[1].score?;
        Some(score.correct as f64 / score.total as f64)
    }

    /// The report on this pruning; `model` is the pruned network.
    pub fn report(&self, model: &Model) -> Report<'_> {
        page::report(model, self)
    }

    /// Writes `prune.txt`, `plan.json`, `pruned.safetensors` and `report.html`, and the network
    /// in these forms. The files are published together.
    ///
    /// # Errors
    /// Errors of the disk; the network does not have one of the forms.
    pub fn save(&self, model: &Model, folder: &Folder, forms: &[Form]) -> Result<()> {
        let mut draft = folder.draft()?;
        draft.text("report.html", &self.report(model).html()?)?;
        draft.text(
            "prune.txt",
            &prune_txt(&self.plan.cfg(), self.plan.parameters().after, self.masked_accuracy()),
        )?;
        draft.text("plan.json", &(self.plan.to_json()? + "\n"))?;
        draft.network(PRUNED, model)?;
        for form in forms {
            draft.export(&form.file(STEM), *form, model)?;
        }
        draft.publish()
    }
}

/// The reference's output: the table of layers, the cfg, and the accuracy of each stage; then the
/// times.
impl fmt::Display for Pruning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.slimmed.plan())?;
        if !self.plan.passes().is_empty() {
            let (channels, parameters) = (self.plan.channels(), self.plan.parameters());
            let left =
                |change: Change| format!("{} of {}", grouped(change.after), grouped(change.before));
            writeln!(
                f,
                "of the original, {} channels are left, and {} parameters\n",
                left(channels),
                left(parameters)
            )?;
        }
        for (stage, score) in self.stages.iter().filter_map(|stage| Some((stage, stage.score?))) {
            writeln!(
                f,
                "{:<14} Accuracy: {}/{} ({:.2} %)",
                stage.name,
                score.correct,
                score.total,
                score.accuracy()
            )?;
        }
        self.latency.iter().try_for_each(|latency| writeln!(f, "{latency}\n"))?;
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
        writeln!(f, "same function: {}", self.closeness)?;
        writeln!(
            f,
            "planned in {:.1} ms, slimmed in {:.1} ms",
            milliseconds(self.planning),
            milliseconds(self.surgery)
        )?;
        let absorbed = self.slimmed.absorbed().iter();
        absorbed.into_iter().try_for_each(|absorbed| writeln!(f, "absorbed: {absorbed}"))?;
        write!(f, "{}", self.repaired)
    }
}
