//! Checks whether the crates can be published.

use crate::source::cargo;
use crate::workspace::target;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The command that packs the published crates, in this order, and compiles the
/// packages that crates.io would get, without libtorch. Nothing is uploaded.
pub(crate) fn dry_run() -> Result<Command> {
    let version = cargo(["--version"]).output().context("cannot run cargo")?.stdout;
    let version = String::from_utf8_lossy(&version);
    // Older versions of cargo look for slim-derive on crates.io.
    ensure!(
        minor(&version).is_none_or(|minor| minor >= 90),
        "cargo 1.90 or newer is needed to publish, this is {version}: `rustup update`"
    );
    let mut publish = cargo(["publish", "--dry-run"]);
    for package in ["slim-derive", "slim-runtime", "slim-serve", "slim-distributed"] {
        publish.args(["--package", package]);
    }
    // A working tree with uncommitted changes is checked as it is. The folder is that of all tasks,
    // so that crates that do not depend on tch are not compiled again.
    publish
        .args([
            "--allow-dirty",
            "--features",
            "slim-runtime/doc-only,slim-serve/doc-only,slim-distributed/doc-only",
            "--target-dir",
        ])
        .arg(target());
    Ok(publish)
}

/// `cargo 1.95.0 (f2d3ce0bd 2026-03-21)` is 95.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("cargo 1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_cargo() {
        assert_eq!(minor("cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n"), Some(95));
        assert_eq!(minor("cargo 1.88.0-nightly"), Some(88));
        assert_eq!(minor("cargo 2.0.0"), None);
    }
}
