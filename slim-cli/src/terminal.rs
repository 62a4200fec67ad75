//! Output of the programs: lines and tables.

use std::fmt::Display;
use std::io::Write;

use comfy_table::{CellAlignment, Table};
use slim_runtime::__private::TABLE_STYLE;

/// Prints a line on standard output. A closed pipe, as after `| head`, does not end the program.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An empty table with a header, in the style of the library's reports: rules above, below and
/// under the header. The first column holds names; the others hold numbers, aligned to the right.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
