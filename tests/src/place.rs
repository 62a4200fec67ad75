//! What is beside the tests when they run: files of the sources, and programs.
//!
//! Cargo says where, when it runs them, in the variables that it also has when it compiles. So they
//! can be run elsewhere, without cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A path below the workspace's `tests/`.
pub fn path(relative: impl AsRef<Path>) -> PathBuf {
    // Of the package whose tests run, beside which this one is.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("../tests").join(relative)
}

/// The program of this name, of the package whose tests run; `compiled` is
/// `env!("CARGO_BIN_EXE_…")`, since cargo before 1.94 says it to the compiler alone.
pub fn program(name: &str, compiled: &str) -> OsString {
    std::env::var_os(format!("CARGO_BIN_EXE_{name}")).unwrap_or_else(|| compiled.into())
}
