//! Checks data-parallel training under PyTorch's own `torchrun`.

use crate::{
    bench,
    setup::{self, Report},
    source::cargo,
    tasks,
    workspace::{root, target},
};
use anyhow::Result;
use std::{ffi::OsString, process::Command, process::ExitCode};

/// The programs that `torchrun` starts.
const BUILT: [&str; 6] = ["--package", "slim-tests", "--bin", "worker", "--package", "slim-cli"];

/// Builds what `torchrun` starts, installs PyTorch where it is missing, and runs the checks.
pub(crate) fn check(args: &[OsString]) -> Result<ExitCode> {
    setup::run(false, Report::IfNews)?;
    let code = tasks::run(cargo(["build"]).args(BUILT).args(["--bin", "slim"]))?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let built = target().join("debug");
    let mut script = Command::new("python3");
    script
        .arg(root().join("tests/behaviour/distributed/torchrun.py"))
        .arg("--worker")
        .arg(built.join("worker"))
        .arg("--slim")
        .arg(built.join("slim"))
        .args(args)
        .env("PYTHONPATH", bench::python_path()?)
        .current_dir(root());
    tasks::run(&mut script)
}
