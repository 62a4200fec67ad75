//! The report on a pruning.

use slim_runtime::criterion::{BatchNormScale, Criterion};

use super::Pruning;
use crate::model::Model;
use crate::report::{Report, Stage};

/// The report on a pruning; `model` is the pruned network.
pub(super) fn report<'p>(model: &Model, pruning: &'p Pruning) -> Report<'p> {
    let plan = pruning.slimmed.plan();
    let slimming = plan.slimming();
    let mut what = vec![("network".to_owned(), model.spec.to_string())];
    what.extend(model.dataset.map(|name| ("trained on".to_owned(), name.to_string())));
    what.extend(model.note.iter().map(|note| ("the file says".to_owned(), note.clone())));
    what.push(("asked for".to_owned(), slimming.target.to_string()));
    what.push(("ranked by".to_owned(), slimming.criterion.name()));
    what.push(("same function".to_owned(), pruning.closeness.to_string()));

    if let Some(check) = &pruning.latency {
        let [before, after] = check.errors().map(|error| format!("{:+.1} %", 100. * error));
        what.push(("latency".to_owned(), check.after.against(&check.before).to_string()));
        what.push((
            "predicted".to_owned(),
            format!("{}; the predictions are {before} and {after} off", check.predicted),
        ));
    }

    let stage = |stage: &super::Stage| Stage {
        name: stage.name.to_owned(),
        accuracy: stage.score.map(|score| score.accuracy()),
        parameters: stage.parameters,
        macs: stage.macs,
    };
    let is_gamma = slimming.criterion.name() == BatchNormScale.name();
    Report {
        title: format!("{}, pruned", model.spec),
        what,
        plan: &pruning.plan,
        passes: if pruning.plan.passes().is_empty() {
            Vec::new()
        } else {
            vec![("this pass".to_owned(), plan)]
        },
        stages: pruning.stages.iter().map(stage).collect(),
        scores: pruning
            .scores
            .iter()
            .map(|layer| (layer.path.clone(), layer.scores.clone()))
            .collect(),
        score_name: if is_gamma { "|γ|".to_owned() } else { slimming.criterion.name() },
        threshold: plan.threshold(),
        dependencies: &pruning.dependencies,
        times: vec![
            ("planning".to_owned(), pruning.planning.as_secs_f64()),
            ("surgery".to_owned(), pruning.surgery.as_secs_f64()),
        ],
        warnings: Vec::new(),
    }
}
