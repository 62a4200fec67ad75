//! What is wrong with a file, before its name is added.

use std::io;
use std::path::Path;

use pytorch_reader::PytorchError;
use tch::TchError;
use zip::result::ZipError;

use crate::Error;
use crate::error::FileError;

pub(super) type Result<T, E = Problem> = std::result::Result<T, E>;

pub(super) enum Problem {
    Io(io::Error),
    /// libtorch refused a tensor of this name.
    Torch(String, TchError),
    /// Everything else, as a text that continues the file's name.
    Reason(String),
}

impl Problem {
    pub(super) fn in_file(self, path: &Path) -> Error {
        let file = path.to_owned();
        match self {
            Self::Io(cause) => Error::Io { file, action: "read", cause },
            Self::Torch(name, cause) => Error::torch(&name)(cause),
            Self::Reason(reason) => Error::File(FileError::Format { file, reason }),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(cause: io::Error) -> Self {
        Self::Io(cause)
    }
}

impl From<ZipError> for Problem {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(cause) if cause.raw_os_error().is_some() => Self::Io(cause),
            other => Self::Reason(format!("no sound zip file: {other}")),
        }
    }
}

impl From<PytorchError> for Problem {
    /// The error's own text includes its cause.
    fn from(error: PytorchError) -> Self {
        match error {
            PytorchError::Io(cause) if cause.raw_os_error().is_some() => Self::Io(cause),
            other => Self::Reason(other.to_string()),
        }
    }
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<&str> for Problem {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}
