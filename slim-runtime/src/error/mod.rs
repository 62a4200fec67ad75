//! What can go wrong, said with the field and the fix.

mod argument;
mod check;
mod file;
mod plan;
mod selection;
mod text;
mod wiring;

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;

use tch::TchError;

pub use argument::ArgumentError;
pub use check::CheckError;
pub use file::FileError;
pub use plan::PlanError;
pub use selection::SelectionError;
pub use text::LibtorchError;
pub use wiring::WiringError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Its text names the field or file, states the rule, then the fix.
///
/// Whatever the error, the model, its variable store and the file at hand are as they were before
/// the call.
///
/// The operating system's and libtorch's own errors are the
/// [`source`](std::error::Error::source). `Debug` is the text with that of the source, for programs
/// whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number or text that is given is out of its range.
    #[error(transparent)]
    Argument(ArgumentError),

    /// The layers do not fit the data flow between them, or a layer cannot be slimmed.
    #[error(transparent)]
    Wiring(WiringError),

    /// No channels can be chosen as asked.
    #[error(transparent)]
    Selection(SelectionError),

    /// A plan or a cfg does not fit the model, or contradicts itself.
    #[error(transparent)]
    Plan(PlanError),

    /// Running the network has shown that something is not as it should be, or has shown nothing.
    #[error(transparent)]
    Check(CheckError),

    /// A file cannot be read as, or written from, this network.
    #[error(transparent)]
    File(FileError),

    /// Something that a `forward` does cannot be read, at this place of its source.
    #[error("{at}: {error:?}")]
    Forward {
        /// File, line and column.
        at: String,
        /// What it is.
        error: Box<Error>,
    },

    /// On the slimmed network `forward` does something else than the dense one without the removed
    /// channels: slimming was undone.
    #[error(
        "slimming was undone, since `forward` does something else on the slimmed network: {difference}; keep the channels that it depends on (`#[prune(keep)]`, `Slimming::keep`), or make it independent of their number"
    )]
    Undone {
        /// The first difference, with its lines.
        difference: String,
    },

    /// Reading or writing a file failed.
    #[error("{}: cannot {action}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },

    /// libtorch refused; out of memory, for instance.
    #[error("`{context}`: libtorch failed")]
    Torch {
        /// The tensor at hand, by field path.
        context: String,
        /// libtorch's own words.
        #[source]
        cause: LibtorchError,
    },

    /// Anything else that a hand-written `Prunable` reports.
    #[error("{0}")]
    Custom(String),
}

impl Error {
    /// For `map_err`: libtorch's error with the tensor that was at hand.
    pub(crate) fn torch(context: impl Into<String>) -> impl FnOnce(TchError) -> Error {
        let context = context.into();
        move |cause| Error::Torch { context, cause: LibtorchError(cause) }
    }

    /// The text with that of the source.
    pub(crate) fn full_text(&self) -> String {
        format!("{self:?}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self.source() {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

macro_rules! text_as_debug {
    ($($group:ident)+) => {$(
        impl fmt::Debug for $group {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )+};
}

text_as_debug!(ArgumentError CheckError FileError LibtorchError PlanError SelectionError WiringError);
