//! Tables that the programs print, with rules above, below and under the header, and numbers
//! aligned to the right.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// An empty table with a header. The first column holds names, and is aligned to the left.
pub fn with_header<const N: usize>(header: [&str; N]) -> Table {
    let rule = LineStyle::none().fill('─').junction('─');
    let style = TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule);
    let mut table = Table::new();
    table.load_style(style).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
