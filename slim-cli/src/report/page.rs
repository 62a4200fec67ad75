//! Renders a report as a page: the texts and plots that the template shows.

use anyhow::{Context, Result, ensure};
use askama::Template;
use slim_runtime::dependencies::LayerGroup;
use slim_runtime::{Change, Dependencies};

use super::fates;
use super::plots::{self, Ink};
use super::{Report, Stage};
use crate::numbers::{change, grouped, time};

/// Number of layers that a cell of the group table names before `and N more`.
const MOST_NAMES: usize = 3;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report<'a>,
    inks: &'static [Ink],
    figures: Vec<Figure>,
    /// What is left of the original network, if the figures are those of a later pass.
    original: String,
    warnings: Vec<String>,
    times: Vec<(&'a str, String)>,
    stages: Vec<StageRow<'a>>,
    stage_plots: Vec<Plot>,
    /// Number of layers with bars.
    layers: usize,
    channels: String,
    scores: Option<Scores>,
    lines: String,
    lines_left_out: usize,
    coupled: usize,
    groups: Vec<GroupRow>,
    dot: String,
    mermaid: String,
    cfg: String,
    json: String,
}

/// A number before and after, shown at the top of the page.
struct Figure {
    name: &'static str,
    before: String,
    after: String,
    change: String,
}

/// A picture with its title.
struct Plot {
    title: &'static str,
    svg: String,
}

struct StageRow<'a> {
    name: &'a str,
    accuracy: String,
    parameters: String,
    macs: String,
}

struct Scores {
    histogram: String,
    strips: String,
    /// Summary of the pictures in words.
    summary: String,
}

struct GroupRow {
    number: usize,
    channels: String,
    is_coupled: bool,
    made: String,
    scaled: String,
    read: String,
    held: String,
}

pub(super) fn html(report: &Report) -> Result<String> {
    check(report)?;
    let layers = layers(report);
    let (lines, lines_left_out) = plots::lines(report.dependencies)?;
    let dependencies = report.dependencies;
    let page = Page {
        report,
        inks: &plots::INKS,
        figures: figures(report),
        original: original(report),
        warnings: report
            .plan
            .warnings()
            .iter()
            .map(ToString::to_string)
            .chain(report.warnings.iter().cloned())
            .collect(),
        times: report.times.iter().map(|(name, seconds)| (name.as_str(), time(*seconds))).collect(),
        stages: report.stages.iter().map(stage_row).collect(),
        stage_plots: stage_plots(&report.stages)?,
        layers: layers.len(),
        channels: plots::channels(&layers)?,
        scores: scores(report)?,
        lines,
        lines_left_out,
        coupled: dependencies.groups.iter().filter(|group| group.is_coupled()).count(),
        groups: dependencies.groups.iter().map(|group| group_row(dependencies, group)).collect(),
        dot: dependencies.to_dot(),
        mermaid: dependencies.to_mermaid(),
        cfg: report.plan.cfg().to_string(),
        json: serde_json::to_string_pretty(report.plan).context("the plan as JSON")?,
    };
    Ok(page.render()?)
}

/// Checks the accuracies.
///
/// # Errors
/// An accuracy outside of 0 to 100.
fn check(report: &Report) -> Result<()> {
    for stage in &report.stages {
        let is_share = stage.accuracy.is_none_or(|accuracy| (0. ..=100.).contains(&accuracy));
        ensure!(
            is_share,
            "stage `{}`: an accuracy of {:?} is no percentage",
            stage.name,
            stage.accuracy.unwrap_or_default()
        );
    }
    Ok(())
}

fn figures(report: &Report) -> Vec<Figure> {
    let counted = |name, before: i64, after: i64| Figure {
        name,
        before: grouped(before),
        after: grouped(after),
        change: change(before as f64, after as f64),
    };
    let (channels, parameters) = (report.way().channels(), report.way().parameters());
    let mut figures = vec![
        counted("Channels", channels.before, channels.after),
        counted("Parameters", parameters.before, parameters.after),
    ];
    let macs = || report.stages.iter().filter_map(|stage| stage.macs);
    if let (Some(before), Some(after)) = (macs().next(), macs().next_back()) {
        figures.push(counted("MACs", before, after));
    }
    let accuracies = || report.stages.iter().filter_map(|stage| stage.accuracy);
    if let (Some(before), Some(after)) = (accuracies().next(), accuracies().next_back()) {
        let sign = if after < before { "−" } else { "+" };
        figures.push(Figure {
            name: "Accuracy",
            before: format!("{before:.2} %"),
            after: format!("{after:.2} %"),
            change: format!("{sign}{:.2} points", (after - before).abs()),
        });
    }
    figures
}

/// What is left of the original network; empty if the figures are those of the original network.
fn original(report: &Report) -> String {
    if report.way() == report.plan {
        return String::new();
    }
    let left = |Change { before, after }, what| {
        format!(
            "{} of {} {what} ({})",
            grouped(after),
            grouped(before),
            change(before as f64, after as f64)
        )
    };
    let (channels, parameters) =
        (left(report.plan.channels(), "channels"), left(report.plan.parameters(), "parameters"));
    format!("The network was pruned before. Of the original, {channels} and {parameters} are left.")
}

fn stage_row(stage: &Stage) -> StageRow<'_> {
    StageRow {
        name: &stage.name,
        accuracy: stage.shown_accuracy(),
        parameters: grouped(stage.parameters),
        macs: stage.macs.map_or("not counted".to_owned(), grouped),
    }
}

/// A plot for each quantity that at least one stage has.
fn stage_plots(stages: &[Stage]) -> Result<Vec<Plot>> {
    let mut all = Vec::new();
    if stages.iter().any(|stage| stage.accuracy.is_some()) {
        all.push(Plot { title: "Accuracy", svg: plots::accuracy(stages)? });
    }
    let sizes = |of: fn(&Stage) -> Option<i64>| -> Vec<(String, i64)> {
        stages.iter().filter_map(|stage| Some((stage.name.clone(), of(stage)?))).collect()
    };
    for (title, sizes) in
        [("Parameters", sizes(|stage| Some(stage.parameters))), ("MACs", sizes(|stage| stage.macs))]
    {
        if !sizes.is_empty() {
            all.push(Plot { title, svg: plots::sizes(title, &sizes)? });
        }
    }
    Ok(all)
}

/// Layers with scored channels, with their numbers of channels before and after.
fn layers(report: &Report) -> Vec<(String, i64, i64)> {
    let scored = report.plan.layers().iter().filter_map(|layer| {
        let axis = layer.axis(&layer.scored.as_ref()?.axis)?;
        Some((layer.path.clone(), axis.width as i64, axis.keep.len() as i64))
    });
    scored.collect()
}

fn scores(report: &Report) -> Result<Option<Scores>> {
    let (layers, name, threshold) = (fates::of(report)?, &report.score_name, report.threshold);
    if layers.iter().all(|layer| layer.channels.is_empty()) {
        return Ok(None);
    }
    Ok(Some(Scores {
        histogram: plots::histogram(name, &layers, threshold)?,
        strips: plots::strips(name, &layers, threshold)?,
        summary: fates::summary(report, &layers),
    }))
}

fn group_row(dependencies: &Dependencies, group: &LayerGroup) -> GroupRow {
    let named = |layers: &mut dyn Iterator<Item = usize>| {
        let paths: Vec<_> = layers.map(|layer| dependencies.layers[layer].path.as_str()).collect();
        match paths.len() {
            all if all > MOST_NAMES + 1 => {
                format!("{} and {} more", paths[..MOST_NAMES].join(", "), all - MOST_NAMES)
            }
            _ => paths.join(", "),
        }
    };
    GroupRow {
        number: group.number,
        channels: grouped(group.channels as i64),
        is_coupled: group.is_coupled(),
        made: named(&mut group.producers()),
        scaled: named(&mut group.scalers()),
        read: named(&mut group.consumers()),
        held: group.held.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
