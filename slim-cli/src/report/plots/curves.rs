//! Plots of accuracy over the removed share of a layer.

use anyhow::Result;

use super::canvas::{Canvas, Side, WIDTH, svg, width_of};
use super::ink::{AFTER, CUT, GRID, Ink, LINK, MUTED};

/// A curve: a name, and accuracies in percent at removed shares, both ascending in share.
pub(in crate::report) struct Curve {
    pub(in crate::report) name: String,
    pub(in crate::report) points: Vec<(f64, f64)>,
}

/// The accuracies between which all curves of a page are drawn, so that they compare.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// Between round numbers.
    pub(in crate::report) fn of(accuracies: impl Iterator<Item = f64>) -> Self {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) =
            accuracies.fold(ends, |(low, high), it| (f64::min(low, it), f64::max(high, it)));
        let step = if high - low < 4. { 1. } else { 10. };
        // A number that is round but for an error of rounding is its own end.
        let low = (low / step + 1e-9).floor() * step;
        let high = (high / step - 1e-9).ceil() * step;
        if low < high { Self { low, high } } else { Self { low: 0., high: 100. } }
    }
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
        let Range { low, high } = self.range;
        let share = ((accuracy - low) / (high - low)).clamp(0., 1.);
        self.bottom - (share * f64::from(self.bottom - MARGIN)).round() as i32
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
    let Range { low, high } = range;
    let ends = [low, high].map(|end| format!("{end:.0} %"));
    let longest = ends.iter().map(|end| end.chars().count()).max().unwrap_or(0);
    let frame = Frame { range, left: width_of(longest) + 6, bottom: height - FOOT };
    svg((WIDTH, height), label, |canvas| {
        for (end, text) in [low, high].into_iter().zip(&ends) {
            let y = frame.y(end);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_at_round_numbers() {
        let of = |accuracies: &[f64]| {
            let Range { low, high } = Range::of(accuracies.iter().copied());
            (low, high)
        };
        assert_eq!(of(&[93.2, 10.]), (10., 100.));
        assert_eq!(of(&[93.2, 91.7]), (91., 94.));
        assert_eq!((of(&[93.2, 85.]), of(&[100., 10.])), ((80., 100.), (10., 100.)));
        assert_eq!((of(&[]), of(&[50.])), ((0., 100.), (0., 100.)));
    }
}
