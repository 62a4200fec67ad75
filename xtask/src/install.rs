//! Installs libtorch with pip into a folder beside its destination, and moves it there when it is
//! complete.

use crate::{
    host,
    libtorch::{Flavour, VERSION, libraries, seal},
    source::cargo,
    workspace::{root, size_of, spell_size, spell_time},
};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    time::Instant,
};

/// The free disk space that an install requires, in bytes. The wheels, their contents and pip's
/// cache came to 2.3 GB without CUDA, and to 10.2 GB with CUDA.
const DISK_LEAN: u64 = 3_000_000_000;
pub(crate) const DISK_FULL: u64 = 12_000_000_000;

/// The CUDA libraries that `libtorch_cpu.so` needs, in the versions that torch requires.
const CUDA_FOR_LEAN: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// Libraries that are of no use without CUDA or Python, by the start of their names. They are half
/// of the size.
const NOT_IN_LEAN: [&str; 5] =
    ["libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libtorch_python", "libcaffe2_nvrtc"];

/// Puts libtorch into `home`, in place of an earlier install. Only one process may do so at a time.
pub(crate) fn install(home: &Path, flavour: Flavour) -> Result<()> {
    let begun = Instant::now();
    let work = Work::begin(home)?;
    let (disk, extent) = match flavour {
        Flavour::Lean => (
            DISK_LEAN,
            "downloads 0.5 GB, takes 0.7 GB of disk (with CUDA: `cargo xtask setup --cuda`)",
        ),
        Flavour::Full => (DISK_FULL, "downloads 2.7 GB, takes 4.7 GB of disk"),
    };
    host::disk(root(), disk)?;
    println!("installing libtorch {VERSION} from PyPI into .libtorch/, {flavour}: {extent}");
    let new = work.folder("new")?;
    pip(&new, &work.folder("tmp")?, flavour)?;
    if flavour == Flavour::Lean {
        strip(&new)?;
    }
    let size = size_of(&new)?;
    seal(&new, flavour).context("pip has installed something else than libtorch is known to be")?;

    // In this order, so that after an interruption at any point, the next setup does not take the
    // old libtorch for the new one.
    if home.symlink_metadata().is_ok() {
        fs::rename(home, work.path.join("old"))
            .with_context(|| format!("cannot move {} away", home.display()))?;
    }
    forget_torch_sys();
    fs::rename(&new, home)
        .with_context(|| format!("cannot move libtorch to {}", home.display()))?;
    drop(work);
    println!(
        "libtorch {VERSION} is ready: {} in {}",
        spell_size(size),
        spell_time(begun.elapsed())
    );
    Ok(())
}

fn pip(target: &Path, tmp: &Path, flavour: Flavour) -> Result<()> {
    let mut pip = pip_install(target, tmp);
    any_python(&mut pip);
    let wheel = format!("torch=={VERSION}");
    pip.arg(&wheel);
    if flavour == Flavour::Lean {
        pip.arg("--no-deps").args(CUDA_FOR_LEAN);
    }
    carry_out(&mut pip, &wheel)
}

/// Lets pip choose a wheel for x86-64 Linux and CPython 3.12, whatever the Python that runs it.
pub(crate) fn any_python(pip: &mut Command) {
    pip.args([
        "--implementation",
        "cp",
        "--python-version",
        "3.12",
        "--platform",
        "manylinux2014_x86_64",
    ]);
    for glibc in 17..=28 {
        pip.args(["--platform", &format!("manylinux_2_{glibc}_x86_64")]);
    }
}

/// A command for pip that puts wheels into `target`. The caller adds the packages.
pub(crate) fn pip_install(target: &Path, tmp: &Path) -> Command {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "--only-binary=:all:",
        "--target",
    ]);
    pip.arg(target);
    // On a terminal, pip shows its progress.
    if !io::stdout().is_terminal() {
        pip.arg("--quiet");
    }
    // `/tmp` may be small; and from `tmp`, pip moves files instead of copying them.
    pip.env("TMPDIR", tmp);
    // Neither setting works with `--target`.
    pip.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
    pip
}

/// Runs pip; `what` names the packages in the error.
pub(crate) fn carry_out(pip: &mut Command, what: &str) -> Result<()> {
    let done = pip
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output);
    let done = done.context("python3 does not run")?;
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..]
            .iter()
            .map(|line| format!("\n  {line}"))
            .collect::<String>();
        bail!(
            "pip could not install {what}; it needs PyPI, or a mirror that `pip config` names. Its last lines:{last}"
        );
    }
    Ok(())
}

fn strip(home: &Path) -> Result<()> {
    for path in libraries(home)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if NOT_IN_LEAN.iter().any(|start| name.starts_with(start)) {
            fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes the compiled torch-sys. Its build only watches environment variables, and these do not
/// change if another libtorch is in the same place.
fn forget_torch_sys() {
    for profile in ["dev", "release"] {
        let mut clean = cargo(["clean", "--package", "torch-sys", "--profile", profile]);
        match clean.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output() {
            Ok(done) if done.status.success() => {
                // cargo prints `Removed 12 files, 34.5MiB total`, or `Removed 0 files` if torch-sys
                // was never compiled.
                if !String::from_utf8_lossy(&done.stderr).contains("Removed 0 files") {
                    println!(
                        "torch-sys will be compiled again ({profile} profile): it was compiled for another libtorch"
                    );
                }
            }
            _ => eprintln!(
                "warning: could not clean torch-sys: run `cargo clean -p torch-sys --profile {profile}`"
            ),
        }
    }
}

/// The folder in which an install is prepared: on the same disk as its destination, and removed
/// when dropped, or else by the next setup.
pub(crate) struct Work {
    all: PathBuf,
    /// The folder of this process. A pip that outlives a killed setup writes to the folder of that
    /// setup, not to this one.
    path: PathBuf,
}

impl Work {
    pub(crate) fn begin(home: &Path) -> Result<Self> {
        let mut all = OsString::from(home);
        all.push(".partial");
        let all = PathBuf::from(all);
        if all.exists() {
            println!("removing what an interrupted setup left in {}", all.display());
            let _ = fs::remove_dir_all(&all);
        }
        let work = Self { path: all.join(id().to_string()), all };
        fs::create_dir_all(&work.path)
            .and_then(|()| fs::write(work.all.join(".gitignore"), "*\n"))
            .with_context(|| format!("cannot write to {}", work.all.display()))?;
        Ok(work)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.all);
    }
}
