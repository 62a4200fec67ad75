//! Formatting of the tables in reports.

use comfy_table::{CellAlignment, LineStyle, Row, Table, TableStyle};
use indicatif::HumanCount;

/// Table style: horizontal rules above the table, below the header and below the table.
pub const STYLE: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

/// The most lines of one kind that a report shows.
pub(crate) const MOST_LINES: usize = 8;

/// A table whose columns from `first_number` on are numbers, right-aligned.
pub fn table<Header: Into<Row>, Line: Into<Row>>(
    header: Header,
    first_number: usize,
    lines: impl IntoIterator<Item = Line>,
) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header).add_rows(lines);
    table
        .column_iter_mut()
        .skip(first_number)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// A non-negative number with grouped digits: `20,035,018`.
pub fn grouped(number: i64) -> String {
    HumanCount(number.unsigned_abs()).to_string()
}

/// A share with one digit after the point: `24.2 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100. * share)
}

/// A ratio that was asked for, with the digits that it has, up to two after the point: `50 %`,
/// `62.5 %`.
pub fn percent_asked(ratio: f64) -> String {
    // Rounded, because 100 · 0.07 is 7.000000000000001.
    format!("{} %", (1e4 * ratio).round() / 1e2)
}

/// Formats a score. Small scores get an exponent, since training with sparsity brings many close to
/// zero.
pub(crate) fn number(score: f64) -> String {
    if (score.abs() < 1e-3 && score != 0.) || score.abs() >= 1e6 {
        format!("{score:.3e}")
    } else {
        format!("{score:.6}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_one_digit_and_ratios_their_own() {
        assert_eq!([0.24249, 1., 0.].map(percent), ["24.2 %", "100.0 %", "0.0 %"]);
        assert_eq!(
            [0.07, 0.5, 0.625, 1. / 3.].map(percent_asked),
            ["7 %", "50 %", "62.5 %", "33.33 %"]
        );
    }
}
