//! Plots of accuracy, parameters and MACs, stage by stage.

use anyhow::Result;

use super::canvas::Side;
use super::ink::{AFTER, BEFORE, GRID, MUTED};
use super::rows::{Row, rows};
use crate::numbers::short;
use crate::report::Stage;

/// The accuracy of each stage, if it is known, as a dot on an axis between round numbers.
pub(in crate::report) fn accuracy(stages: &[Stage]) -> Result<String> {
    let known = || stages.iter().filter_map(|stage| stage.accuracy);
    let low = known().fold(100., f64::min);
    let high = known().fold(0., f64::max);
    let step = if high - low < 4. { 1. } else { 10. };
    let (low, high) =
        ((low / step - 1e-9).floor() * step, ((high / step + 1e-9).ceil() * step).min(100.));
    let share = |accuracy: f64| (accuracy - low) / (high - low).max(1e-9);
    let numbered: Vec<_> = stages
        .iter()
        .map(|stage| Row {
            name: stage.name.clone(),
            number: stage.accuracy.map_or("unknown".to_owned(), |it| format!("{it:.2} %")),
        })
        .collect();
    let spelled: Vec<_> =
        numbered.iter().map(|row| format!("{} {}", row.name, row.number)).collect();
    rows(&format!("Accuracy by stage: {}.", spelled.join(", ")), &numbered, 20, |canvas, frame| {
        for (end, side) in [(low, Side::Right), (high, Side::Left)] {
            let x = frame.across(share(end));
            canvas.line(&[(x, frame.head), (x, frame.bottom())], GRID, 1)?;
            canvas.text(&format!("{end:.0} %"), (x, 8), side, MUTED)?;
        }
        let at = |(index, stage): (usize, &Stage)| {
            stage.accuracy.map(|it| (frame.across(share(it)), frame.middle(index)))
        };
        let points: Vec<_> = stages.iter().enumerate().filter_map(at).collect();
        canvas.line(&points, AFTER, 2)?;
        points.iter().try_for_each(|&point| canvas.dot(point, 4, AFTER))
    })
}

/// The size of each stage, as bars. `what` names the quantity.
pub(in crate::report) fn sizes(what: &str, stages: &[(String, i64)]) -> Result<String> {
    let most = stages.iter().map(|stage| stage.1).max().unwrap_or(0).max(1) as f64;
    let numbered: Vec<_> = stages
        .iter()
        .map(|(name, size)| Row { name: name.clone(), number: short(*size) })
        .collect();
    let spelled: Vec<_> =
        numbered.iter().map(|row| format!("{} {}", row.name, row.number)).collect();
    rows(&format!("{what} by stage: {}.", spelled.join(", ")), &numbered, 0, |canvas, frame| {
        for (index, (_, size)) in stages.iter().enumerate() {
            let middle = frame.middle(index);
            let ink = if *size as f64 == most { BEFORE } else { AFTER };
            canvas.bar(
                (frame.left, middle - 5),
                (frame.across(*size as f64 / most), middle + 5),
                ink,
                1.,
            )?;
        }
        Ok(())
    })
}
