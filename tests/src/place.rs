//! Files of the sources and programs that the tests need when they run.
//!
//! Cargo sets the same variables when it compiles tests and when it runs them. The values at run
//! time take precedence, so the tests can also run elsewhere, without cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A path below the workspace's `tests/`.
pub fn path(relative: impl AsRef<Path>) -> PathBuf {
    // The folder of the package whose tests run, next to which this package is.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("../tests").join(relative)
}

/// The program of this name, of the package whose tests run. `compiled` is
/// `env!("CARGO_BIN_EXE_…")`, since cargo before 1.94 sets this variable for the compiler alone.
pub fn program(name: &str, compiled: &str) -> OsString {
    std::env::var_os(format!("CARGO_BIN_EXE_{name}")).unwrap_or_else(|| compiled.into())
}
