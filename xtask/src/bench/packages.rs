//! Installs PyTorch and the other packages of the Python side in a folder of their own.

use crate::{
    host,
    install::{DISK_FULL, Work, carry_out, pip_install},
    libtorch, lock,
    workspace::{root, size_of, spell_size, spell_time},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// The packages beside torch, which has libtorch's version. The versions that slim is compared with
/// are exact, so that figures of two machines can be compared.
const PACKAGES: [&str; 6] = [
    "torchvision==0.26.0",
    "torch-pruning==1.6.1",
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "safetensors==0.8.0",
    "numpy<3",
];

/// The name of the stamp. It is written last, so an install without it was interrupted. It says
/// which packages were installed, and for which Python.
const STAMP: &str = "slim-bench";

/// The folder with the packages, for `PYTHONPATH`. Installs the packages if they are missing.
pub(crate) fn ready() -> Result<PathBuf> {
    let home = root().join(".bench");
    let wanted = wanted()?;
    if is_whole(&home, &wanted) {
        return Ok(home);
    }
    host::pip()?;
    let _lock = lock::wait(root(), || println!("another setup is at work here: waiting for it"))
        .context("cannot lock the workspace")?;
    // Checked again: another setup may have installed the packages meanwhile.
    if !is_whole(&home, &wanted) {
        install(&home, &wanted)?;
    }
    Ok(home)
}

/// The text that the stamp must have.
fn wanted() -> Result<String> {
    let script = "import sys; print(sys.implementation.cache_tag)";
    let output = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.context("python3 does not run: `apt install python3 python3-pip`")?;
    // Wheels are for one version of Python: for another version, they are installed again.
    Ok(format!(
        "{}torch=={} {}",
        String::from_utf8_lossy(&output.stdout),
        libtorch::VERSION,
        PACKAGES.join(" ")
    ))
}

fn is_whole(home: &Path, wanted: &str) -> bool {
    fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp == wanted)
}

fn install(home: &Path, wanted: &str) -> Result<()> {
    let begun = Instant::now();
    let work = Work::begin(home)?;
    host::disk(root(), DISK_FULL)?;
    println!(
        "installing PyTorch, Torch-Pruning, ONNX Runtime and OpenVINO from PyPI into .bench/: downloads 2.8 GB, takes 5.2 GB of disk"
    );
    let new = work.folder("new")?;
    let mut pip = pip_install(&new, &work.folder("tmp")?);
    pip.arg(format!("torch=={}", libtorch::VERSION)).args(PACKAGES);
    carry_out(&mut pip, "PyTorch and the other packages")?;
    check(&new)?;
    let size = size_of(&new)?;
    fs::write(new.join(STAMP), wanted)
        .with_context(|| format!("cannot write to {}", new.display()))?;
    if home.symlink_metadata().is_ok() {
        fs::rename(home, work.path().join("old"))
            .with_context(|| format!("cannot move {} away", home.display()))?;
    }
    fs::rename(&new, home)
        .with_context(|| format!("cannot move the packages to {}", home.display()))?;
    drop(work);
    println!(
        "PyTorch and the other packages are ready: {} in {}",
        spell_size(size),
        spell_time(begun.elapsed())
    );
    Ok(())
}

/// Checks that all packages can be imported, for which no driver is needed.
fn check(packages: &Path) -> Result<()> {
    let script =
        "import torch, torchvision, torch_pruning, onnxruntime, openvino, safetensors.torch, numpy";
    let output = Command::new("python3")
        .args(["-W", "ignore", "-c", script])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::null())
        .output();
    let output = output.context("python3 does not run")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "what pip has installed does not work: {}",
            stderr.trim().lines().last().unwrap_or("python3 ended without a word")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_whole() -> Result<()> {
        let home = std::env::temp_dir().join(format!("slim-xtask-packages-{}", std::process::id()));
        assert!(!is_whole(&home, "torch==2.11.0"));
        fs::create_dir_all(&home)?;
        assert!(!is_whole(&home, "torch==2.11.0"), "an interrupted install is none");
        fs::write(home.join(STAMP), "torch==2.11.0")?;
        assert!(is_whole(&home, "torch==2.11.0"));
        assert!(!is_whole(&home, "torch==2.12.0"));
        fs::remove_dir_all(&home)?;
        Ok(())
    }

    #[test]
    fn what_cannot_be_imported_is_an_error() -> Result<()> {
        let packages =
            std::env::temp_dir().join(format!("slim-xtask-import-{}", std::process::id()));
        fs::create_dir_all(packages.join("torch"))?;
        fs::write(
            packages.join("torch/__init__.py"),
            "raise ImportError('libtorch_cpu.so is missing')",
        )?;
        let refused = check(&packages).err().map(|error| error.to_string());
        fs::remove_dir_all(&packages)?;
        assert_eq!(
            refused.as_deref(),
            Some("what pip has installed does not work: ImportError: libtorch_cpu.so is missing")
        );
        Ok(())
    }
}
