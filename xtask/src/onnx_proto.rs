//! Generates the messages of ONNX anew, after a change of the version or of what is generated.

use crate::{
    host,
    install::{Work, carry_out, pip_install},
    source::cargo,
    workspace::{root, target},
};
use anyhow::{Context, Result, ensure};
use std::fs;

/// The version of the package `onnx` on PyPI whose `onnx.proto` is read.
const VERSION: &str = "1.23.2";

/// Runs the program in `xtask/onnx-proto`, a workspace of its own, so that its dependencies are
/// compiled for this task only.
pub(crate) fn generate() -> Result<()> {
    host::pip()?;
    fs::create_dir_all(target())?;
    let work = Work::begin(&target().join("onnx-proto"))?;
    let package = work.folder("new")?;
    let wheel = format!("onnx=={VERSION}");
    carry_out(pip_install(&package, &work.folder("tmp")?).arg("--no-deps").arg(&wheel), &wheel)?;
    let generated = root().join("slim-runtime/src/serve/export/onnx/proto.rs");
    let mut run = cargo(["run", "--quiet", "--manifest-path", "xtask/onnx-proto/Cargo.toml"]);
    run.arg("--target-dir").arg(target().join("onnx-proto")).arg("--");
    run.arg(package.join("onnx/onnx.proto")).arg(VERSION).arg(&generated);
    for mut step in [run, cargo(["fmt", "--package", "slim-runtime"])] {
        let status = step.status().context("cannot run cargo")?;
        ensure!(status.success(), "`{}` failed", step.get_program().display());
    }
    println!("generated {}", generated.display());
    Ok(())
}
