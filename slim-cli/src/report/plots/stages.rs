//! Plots of accuracy, parameters and MACs, stage by stage.

use anyhow::Result;

use super::canvas::Side;
use super::ink::{AFTER, BEFORE, GRID, MUTED};
use super::range::Range;
use super::rows::{Row, rows};
use crate::numbers::short;
use crate::report::Stage;

/// The accuracy of each stage, if it is known, as a dot on an axis between round numbers.
pub(in crate::report) fn accuracy(stages: &[Stage]) -> Result<String> {
    let range = Range::of(stages.iter().filter_map(|stage| stage.accuracy));
    let numbered: Vec<_> = stages
        .iter()
        .map(|stage| Row { name: stage.name.clone(), number: stage.shown_accuracy() })
        .collect();
    let spelled: Vec<_> =
        numbered.iter().map(|row| format!("{} {}", row.name, row.number)).collect();
    rows(&format!("Accuracy by stage: {}.", spelled.join(", ")), &numbered, 20, |canvas, frame| {
        for ((end, label), side) in range.ends().into_iter().zip([Side::Right, Side::Left]) {
            let x = frame.across(range.share(end));
            canvas.line(&[(x, frame.head), (x, frame.bottom())], GRID, 1)?;
            canvas.text(&label, (x, 8), side, MUTED)?;
        }
        let at = |(index, stage): (usize, &Stage)| {
            stage.accuracy.map(|it| (frame.across(range.share(it)), frame.middle(index)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_of_accuracies_ends_at_the_round_numbers_around_them() -> Result<()> {
        for (accuracies, ends) in [
            ([0., 50.], ["0 %", "50 %"]),
            ([90., 100.], ["90 %", "100 %"]),
            ([97.01, 99.], ["97 %", "99 %"]),
            ([12.3, 98.61], ["10 %", "100 %"]),
        ] {
            let stages = accuracies.map(|accuracy| Stage {
                name: "stage".to_owned(),
                accuracy: Some(accuracy),
                parameters: 1,
                macs: None,
            });
            let svg = accuracy(&stages)?;
            let labels: Vec<_> = svg
                .lines()
                .map(str::trim)
                .filter(|line| line.ends_with(" %") && !line.contains('.'))
                .collect();
            assert_eq!(labels, ends, "{accuracies:?}");
        }
        Ok(())
    }
}
