//! What a `forward` asks of sizes while it is run symbolically.

use std::panic::Location;

/// What a `forward` has asked that depends on sizes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Where it asked for sizes, and what it was told.
    pub(crate) sizes: Vec<(&'static Location<'static>, Vec<i64>)>,
    /// Where it asked for a number of dimensions that nothing says.
    pub(crate) ranks: Vec<&'static Location<'static>>,
    /// Whether it asked for the kind or the device of a tensor.
    pub(crate) options: bool,
    /// Numbers that it gave to operations that take sizes.
    pub(crate) given: Vec<i64>,
}

impl Asked {
    /// Where it asked for sizes of which it gave none to an operation, as they were or multiplied.
    pub(crate) fn without_use(&self) -> Vec<String> {
        let used = |size: &i64| {
            // A size of one says nothing.
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
