//! The page about a sensitivity.

use anyhow::{Context, Result, bail, ensure};
use askama::Template;
use slim_runtime::Sensitivity;

use super::plots::{self, Curve, Ink, Range};
use crate::numbers::percent_asked;

/// A sensitivity as a page: a curve of the accuracy for each group of layers.
#[derive(Debug)]
pub struct SensitivityReport<'a> {
    /// The page's title.
    pub title: String,
    /// Facts about the run, by name: network, data set, criterion.
    pub what: Vec<(String, String)>,
    /// The accuracies, in percent.
    pub sensitivity: &'a Sensitivity,
}

#[derive(Template)]
#[template(path = "sensitivity.html")]
struct Page<'a> {
    report: &'a SensitivityReport<'a>,
    inks: &'static [Ink],
    dense: String,
    all: String,
    groups: Vec<Group>,
    ratios: Vec<String>,
}

struct Group {
    /// All layers.
    layers: String,
    /// The name, shortened.
    name: String,
    channels: usize,
    svg: String,
    values: Vec<String>,
}

impl SensitivityReport<'_> {
    /// The page: self-contained HTML without a script, as that of a [`Report`](super::Report).
    ///
    /// # Errors
    /// A sensitivity that is not complete, or whose values are no percentages.
    pub fn html(&self) -> Result<String> {
        let sensitivity = self.sensitivity;
        ensure!(sensitivity.is_complete(), "the sensitivity is not complete");
        let dense = sensitivity.dense().context("the dense network is not measured")?;
        let curves: Vec<Curve> = sensitivity
            .groups()
            .iter()
            .map(|group| Curve {
                name: group.group.name(),
                points: sensitivity
                    .ratios()
                    .iter()
                    .copied()
                    .zip(group.values.iter().flatten().copied())
                    .collect(),
            })
            .collect();
        let accuracies = || {
            curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).chain([dense])
        };
        if let Some(wrong) = accuracies().find(|accuracy| !(0. ..=100.).contains(accuracy)) {
            bail!("an accuracy of {wrong:?} is no percentage");
        }
        let range = Range::of(accuracies());
        let groups = sensitivity.groups().iter().zip(&curves).map(|(group, curve)| {
            Ok(Group {
                layers: group.group.layers.join(", "),
                name: curve.name.clone(),
                channels: group.group.removable,
                svg: plots::curve(curve, dense, range)?,
                values: curve.points.iter().map(|(_, value)| format!("{value:.2}")).collect(),
            })
        });
        let page = Page {
            report: self,
            inks: &plots::INKS,
            dense: format!("{dense:.2} %"),
            all: plots::all_curves(&curves, dense, range)?,
            groups: groups.collect::<Result<_>>()?,
            ratios: sensitivity
                .ratios()
                .iter()
                .map(|ratio| format!("−{}", percent_asked(*ratio)))
                .collect(),
        };
        Ok(page.render()?)
    }
}
