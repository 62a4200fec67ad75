//! Checks that the workspace compiles with each version of tch that slim-runtime supports, without
//! libtorch.

use crate::source::cargo;
use crate::workspace::{root, target};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    process::Command,
};

#[cfg(windows)]
use std::{fs::remove_dir as unlink, os::windows::fs::symlink_dir as symlink};
#[cfg(unix)]
use std::{fs::remove_file as unlink, os::unix::fs::symlink};

/// The version of tch that the workspace's manifest requires.
const PINNED: &str = "\"=0.24.0\"";

/// The command that checks slim-runtime, and the zoo, the examples and the tests with their
/// expanded macros, with one version of tch. It uses `doc-only`, which must not be unified with the
/// features of crates that link libtorch, and so a workspace of its own.
pub(crate) fn check(version: &str) -> Result<Command> {
    let workspace = target().join("versions").join(version);
    mirror(&workspace, version)
        .with_context(|| format!("cannot set up {}", workspace.display()))?;
    let mut check = cargo([
        "check",
        "--workspace",
        "--exclude",
        "slim-ui-tests",
        "--exclude",
        "xtask",
        "--all-targets",
    ]);
    // The folder of all tasks, so that crates that do not depend on tch are compiled once.
    check
        .args(["--features", "slim-runtime/doc-only,slim-tests/onnx", "--target-dir"])
        .arg(target())
        .current_dir(workspace);
    Ok(check)
}

/// Sets up this workspace with another tch: a manifest and a lock file of its own, and links to the
/// packages.
fn mirror(folder: &Path, version: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    for package in [
        "slim-derive",
        "slim-runtime",
        "slim-serve",
        "slim-distributed",
        "slim-zoo",
        "slim-cli",
        "examples",
        "tests",
        "bench",
        "xtask",
    ] {
        link(&root().join(package), &folder.join(package))?;
    }
    // cargo keeps the locked versions that it need not change.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    ensure!(
        manifest.contains(PINNED),
        "Cargo.toml does not ask for tch {PINNED}: write what it asks for into xtask/src/versions.rs"
    );
    fs::write(folder.join("Cargo.toml"), manifest.replace(PINNED, &format!("\"={version}\"")))?;
    Ok(())
}

/// Makes `link` a link to `original`, in place of an earlier link.
fn link(original: &Path, link: &Path) -> io::Result<()> {
    match unlink(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(original, link),
    }
}
