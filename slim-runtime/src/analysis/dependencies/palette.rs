//! The colours of coupled groups.

/// Fill colours for black text that remain distinguishable with red-green colour blindness.
/// Neighbours differ most.
const FILLS: [&str; 8] =
    ["#a6cee3", "#fdbf6f", "#b2df8a", "#cab2d6", "#ffff99", "#fb9a99", "#99d8c9", "#d9d9d9"];

/// The colour of the coupled group number `index`, from 0. The colours repeat after the last one.
pub(super) fn fill(index: usize) -> &'static str {
    FILLS[index % FILLS.len()]
}
