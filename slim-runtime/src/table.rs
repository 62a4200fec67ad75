//! How tables look that a person reads.

use comfy_table::{LineStyle, TableStyle};

/// Rules above, below the header and below.
pub(crate) const STYLE: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

/// How many lines of a sort a report shows.
pub(crate) const MOST_LINES: usize = 8;

/// `20,035,018`
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Where training with sparsity worked, scores are close to zero.
pub(crate) fn number(score: f64) -> String {
    if score.abs() < 1e-3 && score != 0. { format!("{score:.3e}") } else { format!("{score:.6}") }
}
