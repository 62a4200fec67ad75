//! The groups as a table.

use std::fmt;

use comfy_table::{CellAlignment, Table};

use super::{ChannelRole, Dependencies, LayerGroup};
use crate::table::{STYLE, grouped};

/// Number of layers that a cell names when it leaves out at least two others.
const MOST_NAMES: usize = 2;

impl fmt::Display for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Columns without any entry are left out.
        let columns: Vec<_> = COLUMNS
            .into_iter()
            .filter(|column| self.groups.iter().any(|group| !column.of(self, group).is_empty()))
            .collect();
        let mut table = Table::new();
        table.load_style(STYLE).set_header(
            ["group", "channels"].into_iter().chain(columns.iter().map(|column| column.header())),
        );
        for group in &self.groups {
            let numbers = [group.number.to_string(), grouped(group.channels as i64)];
            table.add_row(
                numbers.into_iter().chain(columns.iter().map(|column| column.of(self, group))),
            );
        }
        table
            .column_iter_mut()
            .take(2)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        write!(f, "{}", table.trim_fmt())
    }
}

#[derive(Clone, Copy)]
enum Column {
    Layers(ChannelRole),
    Held,
}

const COLUMNS: [Column; 6] = [
    Column::Layers(ChannelRole::Makes),
    Column::Layers(ChannelRole::Scales),
    Column::Layers(ChannelRole::Follows),
    Column::Layers(ChannelRole::Moves),
    Column::Layers(ChannelRole::Reads),
    Column::Held,
];

impl Column {
    fn header(self) -> &'static str {
        match self {
            Column::Layers(ChannelRole::Makes) => "made by",
            Column::Layers(ChannelRole::Scales) => "scaled by",
            Column::Layers(ChannelRole::Follows) => "followed by",
            Column::Layers(ChannelRole::Moves) => "moved by",
            Column::Layers(ChannelRole::Reads) => "read by",
            Column::Held => "held",
        }
    }

    fn of(self, dependencies: &Dependencies, group: &LayerGroup) -> String {
        let Column::Layers(part) = self else {
            return group.held.as_ref().map(ToString::to_string).unwrap_or_default();
        };
        let paths: Vec<_> = group
            .layers(|role| role == part)
            .map(|layer| dependencies.layers[layer].path.as_str())
            .collect();
        match paths.len() {
            all if all > MOST_NAMES + 1 => {
                format!("{} and {} more", paths[..MOST_NAMES].join(", "), all - MOST_NAMES)
            }
            _ => paths.join(", "),
        }
    }
}
