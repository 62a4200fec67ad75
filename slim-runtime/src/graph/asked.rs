//! The questions about sizes that a `forward` asks while it runs symbolically.

use std::panic::Location;

/// The questions of a `forward` whose answers depend on sizes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Where `forward` asked for sizes, and the answers.
    pub(crate) sizes: Vec<(&'static Location<'static>, Vec<i64>)>,
    /// Where `forward` asked for a number of dimensions that is not known.
    pub(crate) ranks: Vec<&'static Location<'static>>,
    /// Whether `forward` asked for the kind or the device of a tensor.
    pub(crate) options: bool,
    /// Numbers that `forward` passed to operations that take sizes.
    pub(crate) given: Vec<i64>,
}

impl Asked {
    /// Where `forward` asked for sizes and passed none of them to an operation, neither unchanged
    /// nor as a multiple or a divisor; and where it asked for an unknown number of dimensions. As
    /// file, line and column.
    pub(crate) fn without_use(&self) -> Vec<String> {
        let used = |size: &i64| {
            // A size of one divides every number, so it shows no use.
            let is_used = |given: &i64| *given > 1 && (given % size == 0 || size % given == 0);
            *size > 1 && self.given.iter().any(is_used)
        };
        let unused = self.sizes.iter().filter(|(_, sizes)| !sizes.iter().any(used));
        let places = unused.map(|(at, _)| at).chain(&self.ranks);
        let mut places: Vec<String> =
            places.map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column())).collect();
        places.dedup();
        places
    }
}
