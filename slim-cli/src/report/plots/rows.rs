//! Pictures with a row for each layer or stage: its name, a drawing, and numbers.

use anyhow::Result;

use super::canvas::{Canvas, Side, WIDTH, longest, shortened, svg, width_of, width_of_name};
use super::ink::{MUTED, TEXT};

/// The longest name that is shown whole, in characters.
const MOST_CHARACTERS: usize = 26;
/// Height of a row, in pixels.
const ROW: i32 = 18;
/// Smallest width between names and numbers, in pixels.
const MIDDLE: i32 = 100;

/// Texts to the left and right of a row's drawing.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) number: String,
}

/// Layout of the rows, in pixels.
pub(super) struct Frame {
    /// Left end of the drawings; `right` is their right end.
    pub(super) left: i32,
    pub(super) right: i32,
    /// Room above the rows.
    pub(super) head: i32,
    rows: i32,
}

impl Frame {
    /// Vertical position of a row's middle.
    pub(super) fn middle(&self, row: usize) -> i32 {
        self.head + ROW * row as i32 + ROW / 2
    }

    /// Vertical position below the last row.
    pub(super) fn bottom(&self) -> i32 {
        self.head + ROW * self.rows
    }

    /// Horizontal position at a share of the drawing's width.
    pub(super) fn across(&self, share: f64) -> i32 {
        self.left + (share * f64::from(self.right - self.left)).round() as i32
    }
}

/// Draws rows, with `head` pixels of room above them.
pub(super) fn rows(
    label: &str,
    rows: &[Row],
    head: i32,
    draw: impl FnOnce(&Canvas, &Frame) -> Result<()>,
) -> Result<String> {
    let names = shortened(rows.iter().map(|row| row.name.as_str()), MOST_CHARACTERS);
    let left = width_of_name(longest(names.iter()));
    let right = width_of(longest(rows.iter().map(|row| &row.number)));
    let width = WIDTH.max(left + right + MIDDLE);
    let frame = Frame { left, right: width - right, head, rows: rows.len() as i32 };
    svg((width, frame.bottom() + 4), label, |canvas| {
        draw(canvas, &frame)?;
        for (index, (row, name)) in rows.iter().zip(&names).enumerate() {
            canvas.name(name, (frame.left - 8, frame.middle(index)), Side::Left, TEXT)?;
            canvas.text(&row.number, (width, frame.middle(index)), Side::Left, MUTED)?;
        }
        Ok(())
    })
}
