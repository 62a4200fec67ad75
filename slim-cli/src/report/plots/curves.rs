//! Plots of accuracy over the removed share of a layer.

use anyhow::Result;

use super::canvas::{Canvas, Side, WIDTH, svg, width_of};
use super::ink::{AFTER, CUT, GRID, Ink, LINK, MUTED};
use super::range::Range;

/// A curve: a name, and accuracies in percent at removed shares, both ascending in share.
pub(in crate::report) struct Curve {
    pub(in crate::report) name: String,
    pub(in crate::report) points: Vec<(f64, f64)>,
}

/// The place of the curves in a picture.
struct Frame {
    range: Range,
    left: i32,
    bottom: i32,
}

/// Space above and to the right.
const MARGIN: i32 = 10;
/// Height of the labels below.
const FOOT: i32 = 20;

impl Frame {
    fn x(&self, share: f64) -> i32 {
        self.left + (share * f64::from(WIDTH - MARGIN - self.left)).round() as i32
    }

    fn y(&self, accuracy: f64) -> i32 {
        self.bottom - (self.range.share(accuracy) * f64::from(self.bottom - MARGIN)).round() as i32
    }

    fn draw(&self, canvas: &Canvas, curve: &Curve, dense: f64, ink: Ink, width: u32) -> Result<()> {
        let points: Vec<_> = std::iter::once((0., dense))
            .chain(curve.points.iter().copied())
            .map(|(share, accuracy)| (self.x(share), self.y(accuracy)))
            .collect();
        canvas.line(&points, ink, width)?;
        if width > 1 {
            points[1..].iter().try_for_each(|&point| canvas.dot(point, 3, ink))?;
        }
        Ok(())
    }
}

/// The curve of one layer.
pub(in crate::report) fn curve(curve: &Curve, dense: f64, range: Range) -> Result<String> {
    let spelled: Vec<_> = curve
        .points
        .iter()
        .map(|(share, accuracy)| format!("{accuracy:.2} % without {:.0} %", 100. * share))
        .collect();
    let label = format!("{}: {}.", curve.name, spelled.join(", "));
    framed(&label, 130, dense, range, |canvas, frame| frame.draw(canvas, curve, dense, AFTER, 2))
}

/// All curves in one picture.
pub(in crate::report) fn all_curves(curves: &[Curve], dense: f64, range: Range) -> Result<String> {
    let label = format!("The curves of {} groups of layers.", curves.len());
    framed(&label, 240, dense, range, |canvas, frame| {
        curves.iter().try_for_each(|curve| frame.draw(canvas, curve, dense, LINK, 1))
    })
}

fn framed(
    label: &str,
    height: i32,
    dense: f64,
    range: Range,
    draw: impl FnOnce(&Canvas, &Frame) -> Result<()>,
) -> Result<String> {
    let ends = range.ends();
    let longest = ends.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
    let frame = Frame { range, left: width_of(longest) + 6, bottom: height - FOOT };
    svg((WIDTH, height), label, |canvas| {
        for (end, text) in &ends {
            let y = frame.y(*end);
            canvas.line(&[(frame.left, y), (WIDTH - MARGIN, y)], GRID, 1)?;
            canvas.text(text, (frame.left - 6, y), Side::Left, MUTED)?;
        }
        for (share, side) in [(0., Side::Right), (0.5, Side::Middle), (1., Side::Left)] {
            let x = frame.x(share);
            canvas.line(&[(x, MARGIN), (x, frame.bottom)], GRID, 1)?;
            canvas.text(&format!("{:.0} %", 100. * share), (x, height - 8), side, MUTED)?;
        }
        let y = frame.y(dense);
        canvas.line(&[(frame.left, y), (WIDTH - MARGIN, y)], CUT, 1)?;
        draw(canvas, &frame)
    })
}
