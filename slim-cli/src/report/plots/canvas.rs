//! A picture while it is drawn. Positions are in pixels at a phone's width; the page scales the
//! picture.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    Circle, DrawingArea, IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, ShapeStyle};

use super::ink::Ink;

/// Width of a picture, about that of a phone's screen.
pub(super) const WIDTH: i32 = 350;

/// Size of text.
const FONT: f64 = 12.;
/// Approximate width of a number with `digits` digits, in pixels.
pub(super) fn width_of(digits: usize) -> i32 {
    7 * digits as i32 + 8
}

/// Width of a name with `characters` characters, in a fixed-width font, in pixels.
pub(super) fn width_of_name(characters: usize) -> i32 {
    (7.3 * characters as f64).ceil() as i32 + 8
}

/// A picture.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// Where a text is drawn, relative to its position.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Middle,
    Right,
}

/// Draws a picture of `size`, width and height. `label` describes it to people who cannot see it.
pub(super) fn svg(
    size: (i32, i32),
    label: &str,
    draw: impl FnOnce(&Canvas) -> Result<()>,
) -> Result<String> {
    let mut drawn = String::new();
    {
        let canvas = Canvas(
            SVGBackend::with_string(&mut drawn, (size.0 as u32, size.1 as u32)).into_drawing_area(),
        );
        draw(&canvas)?;
        canvas.0.present().map_err(failed)?;
    }
    // Replace the opening tag: plotters writes a fixed size in pixels, and no label.
    let body = drawn.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = size;
    Ok(format!(
        "<svg class=\"plot\" viewBox=\"0 0 {width} {height}\" style=\"--width: {width}px\" role=\"img\" aria-label=\"{}\">{body}",
        askama::filters::escape(label, askama::filters::Html)?
    ))
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a picture cannot be drawn: {error}")
}

impl Canvas<'_> {
    pub(super) fn bar(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        ink: Ink,
        opacity: f64,
    ) -> Result<()> {
        self.0.draw(&Rectangle::new([from, to], ink.colour().mix(opacity).filled())).map_err(failed)
    }

    pub(super) fn line(&self, points: &[(i32, i32)], ink: Ink, width: u32) -> Result<()> {
        let style =
            ShapeStyle { color: ink.colour().to_rgba(), filled: false, stroke_width: width };
        self.0.draw(&PathElement::new(points.to_vec(), style)).map_err(failed)
    }

    pub(super) fn dot(&self, at: (i32, i32), radius: i32, ink: Ink) -> Result<()> {
        self.0.draw(&Circle::new(at, radius, ink.colour().filled())).map_err(failed)
    }

    /// Draws a name, such as a layer's path, in a fixed-width font.
    pub(super) fn name(&self, text: &str, at: (i32, i32), side: Side, ink: Ink) -> Result<()> {
        self.write(text, at, side, ink, "monospace")
    }

    pub(super) fn text(&self, text: &str, at: (i32, i32), side: Side, ink: Ink) -> Result<()> {
        self.write(text, at, side, ink, "sans-serif")
    }

    fn write(&self, text: &str, at: (i32, i32), side: Side, ink: Ink, family: &str) -> Result<()> {
        let side = match side {
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
            Side::Right => HPos::Left,
        };
        // The backend divides font sizes by this factor.
        let style = (family, FONT * 1.24)
            .into_font()
            .color(&ink.colour())
            .pos(Pos::new(side, VPos::Center));
        self.0.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
    }
}

/// Number of characters in the longest text.
pub(super) fn longest<'t>(texts: impl Iterator<Item = &'t String>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

/// Names of at most `most` characters. If a name is longer, all names lose the start that they
/// share. Names that are still too long lose more of their start, since the end tells layers apart.
pub(super) fn shortened<'n>(names: impl Iterator<Item = &'n str>, most: usize) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    let is_long = |name: &&str| name.chars().count() > most;
    let mut is_whole = true;
    while names.iter().any(is_long) {
        let Some((first, _)) = names[0].split_once('.') else { break };
        let rest: Option<Vec<_>> =
            names.iter().map(|name| name.strip_prefix(first)?.strip_prefix('.')).collect();
        let Some(rest) = rest else { break };
        (names, is_whole) = (rest, false);
    }
    let end_of = |name: &str| match name.chars().count() {
        length if length > most => {
            format!("…{}", name.chars().skip(length - most + 1).collect::<String>())
        }
        _ if is_whole => name.to_owned(),
        _ => format!("…{name}"),
    };
    names.into_iter().map(end_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        let of = |names: &[&str], most| shortened(names.iter().copied(), most).join(" ");
        assert_eq!(of(&["layer1.0.bn1", "bn1"], 22), "layer1.0.bn1 bn1");
        assert_eq!(
            of(&["features.0.norm", "features.12.block.depthwise.norm"], 26),
            "…0.norm …12.block.depthwise.norm"
        );
        assert_eq!(
            of(&["features.0", "a_name_without_any_dot_in_it"], 10),
            "features.0 …dot_in_it"
        );
        assert_eq!(of(&["γγγγγγγγ"], 4), "…γγγ");
        assert_eq!(of(&[], 4), "");
    }
}
