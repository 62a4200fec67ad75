//! The versions of tch that slim-runtime works with: the workspace, compiled with each of them, and
//! without libtorch.

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

/// The version that the workspace's manifest asks for.
const PINNED: &str = "\"=0.24.0\"";

/// Compiles, with one version of tch, slim-runtime and all that is built on it here: the zoo, the
/// examples and the tests, with what the macros make of them. With `doc-only`, which must not meet
/// the crates that link libtorch, so in a workspace of its own.
pub(crate) fn check(version: &str) -> Result<Command> {
    let all = target().join("versions");
    let workspace = all.join(version);
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
    // One folder for all versions, so that what does not depend on tch is compiled once.
    check
        .args(["--features", "slim-runtime/doc-only", "--target-dir"])
        .arg(all.join("target"))
        .current_dir(workspace);
    Ok(check)
}

/// This workspace with another tch: a manifest and a lock of its own, and links to the packages.
fn mirror(folder: &Path, version: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    for package in ["slim-derive", "slim-runtime", "examples", "tests", "bench", "xtask"] {
        link(&root().join(package), &folder.join(package))?;
    }
    // What cargo need not change in it stays as it is.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    ensure!(
        manifest.contains(PINNED),
        "Cargo.toml does not ask for tch {PINNED}: write what it asks for into xtask/src/versions.rs"
    );
    fs::write(folder.join("Cargo.toml"), manifest.replace(PINNED, &format!("\"={version}\"")))?;
    Ok(())
}

/// A link to `original`, also where there is one to something else.
fn link(original: &Path, link: &Path) -> io::Result<()> {
    match unlink(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(original, link),
    }
}
