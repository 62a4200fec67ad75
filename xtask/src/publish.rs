//! Checks whether the crates can be published.

use crate::source::cargo;
use crate::workspace::target;
use anyhow::{Context, Result, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The published crates, each behind those that it depends on.
const PACKAGES: [&str; 4] = ["slim-derive", "slim-runtime", "slim-serve", "slim-distributed"];

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
    forget_unpacked()?;
    let mut publish = cargo(["publish", "--dry-run"]);
    for package in PACKAGES {
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

/// Removes what cargo has unpacked of these crates in an earlier run. It keeps packages by the path
/// of the registry that it makes for the run and by their version, and would compile a crate with
/// the earlier state of another.
fn forget_unpacked() -> Result<()> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let Some(home) = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo"))) else {
        return Ok(());
    };
    let unpacked = home.join("registry/src");
    // A registry in a folder has no host in front of the dash.
    let registries = folders(&unpacked).filter(|name| name.starts_with('-'));
    for registry in registries.map(|name| unpacked.join(name)) {
        let is_ours = |name: &String| {
            let package = name.rsplit_once('-').map_or("", |(package, _)| package);
            PACKAGES.contains(&package)
        };
        for package in folders(&registry).filter(is_ours).map(|name| registry.join(name)) {
            fs::remove_dir_all(&package)
                .with_context(|| format!("cannot remove {}", package.display()))?;
        }
    }
    Ok(())
}

/// The names of what is in a folder; none if there is no such folder.
fn folders(folder: &Path) -> impl Iterator<Item = String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
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
