//! Plot of the channel groups, as lines that run down along the layers.
//!
//! A row is a layer that makes channels. A line is a channel group, from the first layer that makes
//! its channels to the last that reads them. It has a dot where a layer makes the channels, and a
//! ring where a layer reads them. A general graph layout shows less: in a network of a hundred
//! layers nobody can follow its edges.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use slim_runtime::Dependencies;
use slim_runtime::dependencies::LayerGroup;

use super::canvas::{Canvas, Side, WIDTH, longest, shortened, svg, width_of, width_of_name};
use super::ink::{GRID, GROUPS, Ink, LINK, MUTED, PAPER, TEXT};

const ROW: i32 = 18;
/// Pixels between lines.
const LANE: i32 = 11;
/// The longest name that is shown whole, in characters.
const MOST_CHARACTERS: usize = 40;
/// With more lines side by side, none can be followed. Then lines of uncoupled groups that span
/// more than two rows are left out.
const MOST_LANES: usize = 64;

/// A group's line.
struct Line<'a> {
    group: &'a LayerGroup,
    makers: BTreeSet<usize>,
    readers: BTreeSet<usize>,
    lane: usize,
}

impl Line<'_> {
    fn ends(&self) -> (usize, usize) {
        let first = self.makers.first().copied().unwrap_or_default();
        let last = self.makers.last().max(self.readers.last()).copied().unwrap_or(first);
        (first, last.max(first))
    }
}

/// The picture, and the number of lines that were left out of it.
pub(in crate::report) fn lines(dependencies: &Dependencies) -> Result<(String, usize)> {
    let makers: BTreeSet<usize> =
        dependencies.groups.iter().flat_map(LayerGroup::producers).collect();
    let row: BTreeMap<usize, usize> =
        makers.iter().enumerate().map(|(row, &layer)| (layer, row)).collect();
    let rows_of = |layers: &mut dyn Iterator<Item = usize>| {
        layers.filter_map(|layer| row.get(&layer).copied()).collect()
    };
    let line = |group| Line {
        group,
        makers: rows_of(&mut group.producers()),
        readers: rows_of(&mut group.consumers()),
        lane: 0,
    };
    // No layer makes the model's input.
    let mut lines: Vec<_> =
        dependencies.groups.iter().map(line).filter(|line| !line.makers.is_empty()).collect();
    let all = lines.len();
    if lanes(&mut lines) > MOST_LANES {
        lines.retain(|line| line.group.is_coupled() || line.ends().1 <= line.ends().0 + 1);
    }
    let lanes = lanes(&mut lines) as i32;

    let names = shortened(
        makers.iter().map(|&layer| dependencies.layers[layer].path.as_str()),
        MOST_CHARACTERS,
    );
    let widths: Vec<_> = makers.iter().map(|&layer| dependencies.layers[layer].widths()).collect();
    let name_at = LANE * (lanes + 1);
    let width = WIDTH
        .max(name_at + width_of_name(longest(names.iter())) + width_of(longest(widths.iter())));
    let size = (width, ROW * names.len() as i32 + 4);
    let coupled = lines.iter().filter(|line| line.group.is_coupled()).count();
    let label = format!(
        "{} layers and {} groups of channels; {coupled} groups are made by several layers.",
        names.len(),
        lines.len()
    );
    let drawn = svg(size, &label, |canvas| {
        guides(canvas, &lines, names.len(), name_at)?;
        lines.iter().zip(inks(&lines)).try_for_each(|(line, ink)| draw(canvas, line, ink))?;
        for (row, (name, widths)) in names.iter().zip(&widths).enumerate() {
            canvas.name(name, (name_at + 4, middle(row)), Side::Right, TEXT)?;
            canvas.text(widths, (width, middle(row)), Side::Left, MUTED)?;
        }
        Ok(())
    })?;
    Ok((drawn, all - lines.len()))
}

/// Gives every line the first free lane, and returns the number of lanes. A line may start in the
/// row where another line of its lane ends.
fn lanes(lines: &mut [Line]) -> usize {
    lines.sort_by_key(|line| line.ends().0);
    let mut free_from: Vec<usize> = Vec::new();
    for line in lines {
        let (first, last) = line.ends();
        line.lane = free_from.iter().position(|&from| from <= first).unwrap_or(free_from.len());
        free_from.resize(free_from.len().max(line.lane + 1), 0);
        // A line of a single row occupies that row.
        free_from[line.lane] = last.max(first + usize::from(first == last));
    }
    free_from.len()
}

/// Coupled groups take the colours of `GROUPS` in turn.
fn inks(lines: &[Line]) -> Vec<Ink> {
    let mut colours = GROUPS.into_iter().cycle();
    lines
        .iter()
        .map(|line| if line.group.is_coupled() { colours.next().unwrap_or(LINK) } else { LINK })
        .collect()
}

/// In each row, a line from the first lane that the row's layer makes or reads to its name.
fn guides(canvas: &Canvas, lines: &[Line], rows: usize, name_at: i32) -> Result<()> {
    (0..rows).try_for_each(|row| {
        let known =
            lines.iter().filter(|line| line.makers.contains(&row) || line.readers.contains(&row));
        let first = known.map(|line| x(line.lane)).min().unwrap_or(name_at);
        canvas.line(&[(first, middle(row)), (name_at, middle(row))], GRID, 1)
    })
}

fn draw(canvas: &Canvas, line: &Line, ink: Ink) -> Result<()> {
    let ((first, last), x) = (line.ends(), x(line.lane));
    let width = if line.group.is_coupled() { 3 } else { 1 };
    canvas.line(&[(x, middle(first)), (x, middle(last))], ink, width)?;
    for &row in &line.readers {
        canvas.dot((x, middle(row)), 4, ink)?;
        canvas.dot((x, middle(row)), 2, PAPER)?;
    }
    line.makers.iter().try_for_each(|&row| {
        canvas.dot((x, middle(row)), if line.group.is_coupled() { 5 } else { 4 }, ink)
    })
}

fn x(lane: usize) -> i32 {
    LANE * lane as i32 + LANE / 2 + 1
}

fn middle(row: usize) -> i32 {
    ROW * row as i32 + ROW / 2 + 2
}
