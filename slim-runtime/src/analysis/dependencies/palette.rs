//! The colours of coupled groups.

/// Fills that are told apart, also by those who see red and green alike, under black text;
/// neighbours differ most.
const FILLS: [&str; 8] =
    ["#a6cee3", "#fdbf6f", "#b2df8a", "#cab2d6", "#ffff99", "#fb9a99", "#99d8c9", "#d9d9d9"];

/// The colour of the coupled group that is the `index`-th, from 0. They come round again.
pub(super) fn fill(index: usize) -> &'static str {
    FILLS[index % FILLS.len()]
}
