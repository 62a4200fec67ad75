//! What can go wrong.

use std::fmt;
use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Its text states the rule, then the fix. `Debug` is the same text, for
/// programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Running, exporting or measuring the network failed.
    #[error("{0:?}")]
    Network(#[from] slim_runtime::Error),

    /// A file cannot be served.
    #[error("{}: it cannot be served: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },

    /// A setting of the runner is out of its range.
    #[error("`{name}` is {found}: {rule}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        rule: String,
    },

    /// The runner takes no such input.
    #[error("an input of {found} cannot be served: {reason}")]
    Input {
        /// The shape, the kind and the device of the input.
        found: String,
        /// Why not, and the fix.
        reason: String,
    },

    /// The network cannot be compiled for inputs of a shape.
    #[error("inputs of {shape:?} cannot be served: {reason}")]
    Compile {
        /// The shape.
        shape: Vec<i64>,
        /// Why no form of the network is right, form by form.
        reason: String,
    },

    /// A compiled network does not run on an input of the shape that it is compiled for.
    #[error("the network does not run on an input of {shape:?}: {reason}")]
    Run {
        /// The shape.
        shape: Vec<i64>,
        /// libtorch's words.
        reason: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
