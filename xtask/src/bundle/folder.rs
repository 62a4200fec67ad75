//! The files of a bundle:
//!
//! ```text
//! run.sh       runs the tests
//! tests.txt    their names, and the folder of the workspace that each is run in
//! tests/       the programs that are tests, packed with gzip until the script is run
//! bin/         the programs that tests run, and those of the bench, likewise
//! workspace/   what tests read of the sources
//! ```

use super::{
    RUN,
    compile::{Program, Role},
};
use crate::workspace::{root, size_of};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

/// The file by which a bundle is recognised, so that no other folder is emptied.
const MARK: &str = "tests.txt";

/// The folders with files that tests read when they run. From `READ`, all files except Python
/// scripts are copied; from `SNAPSHOTS_BELOW`, only snapshots.
const READ: [&str; 2] = ["tests/fixtures", "tests/properties/fuzz/corpus"];
const SNAPSHOTS_BELOW: [&str; 3] = ["slim-runtime/src", "slim-cli", "tests"];

/// Removes an earlier bundle at `out`.
///
/// # Errors
/// There is something at `out` that is not a bundle.
pub(super) fn clear(out: &Path) -> Result<()> {
    let empty = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => bail!("--out {}: {error}", out.display()),
    };
    ensure!(
        empty || out.join(MARK).is_file(),
        "--out {}: there is something in it that is no bundle; name another folder",
        out.display()
    );
    fs::remove_dir_all(out).with_context(|| format!("cannot remove {}", out.display()))
}

/// Writes the bundle to `out`. Returns its size in bytes.
pub(super) fn fill(out: &Path, programs: &[Program]) -> Result<u64> {
    for folder in ["tests", "bin", "workspace"] {
        fs::create_dir_all(out.join(folder))?;
    }
    let mut list = String::new();
    for Program { name, role, file } in programs {
        if let Role::Test { package } = role {
            list += &format!("{name} {}\n", package.display());
            // The test runs in this folder, even if it reads no files.
            fs::create_dir_all(out.join("workspace").join(package))?;
        }
        let copy = out.join(role.folder()).join(name);
        fs::copy(file, &copy).with_context(|| file.display().to_string())?;
        tool("strip", "--strip-all", "binutils", &copy)?;
        tool("gzip", "-9", "gzip", &copy)?;
    }
    for folder in READ {
        copy(&root().join(folder), &out.join("workspace").join(folder), &|path| {
            path.extension().is_none_or(|extension| extension != "py")
        })?;
    }
    for folder in SNAPSHOTS_BELOW {
        copy(&root().join(folder), &out.join("workspace").join(folder), &|path| {
            path.extension().is_some_and(|extension| extension == "snap")
        })?;
    }
    let script = out.join("run.sh");
    fs::write(&script, RUN)?;
    executable(&script)?;
    // Written last, so that an unfinished folder is not taken for a bundle.
    fs::write(out.join(MARK), list)?;
    Ok(size_of(out)?)
}

/// Copies the files that are `wanted`, with the folders that they are in.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&from, &to, wanted)?;
        } else if wanted(&from) {
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Runs the program `name`, which `apt` installs with `package`, on a file.
fn tool(name: &str, option: &str, package: &str, file: &Path) -> Result<()> {
    let done = Command::new(name).arg(option).arg(file).stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("`{name}` does not run: `apt install {package}`"))?;
    ensure!(
        done.status.success(),
        "{name} fails: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}

#[cfg(unix)]
fn executable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn executable(_: &Path) -> io::Result<()> {
    Err(io::Error::other("bundles are made on Linux, and for it"))
}
