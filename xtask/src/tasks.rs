//! The tasks `demo`, `test` and `ci`, which run setup and then cargo.

use crate::{
    onnxruntime, publish,
    setup::{self, Report},
    source::cargo,
    versions,
    workspace::{spell_time, target},
};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// All packages that link libtorch. Every task uses this selection, so that nothing is compiled
/// twice.
const LINKED: [&str; 5] = [
    "--workspace",
    "--exclude",
    "slim-ui-tests",
    "--features",
    "slim-tests/onnx,slim-generated/onnx",
];
/// Built with `tch/doc-only`, which must not be unified with the features of the others.
const UI: [&str; 2] = ["--package", "slim-ui-tests"];

pub(crate) fn demo(args: &[OsString]) -> Result<ExitCode> {
    setup::run(false, Report::IfNews)?;
    let mut demo = cargo(["run", "--package", "slim-cli", "--", "demo"]);
    run(demo.args(args))
}

/// Installs libtorch, and ONNX Runtime where it is asked for.
pub(crate) fn set_up(cuda: bool, onnxruntime: bool, report: Report) -> Result<()> {
    setup::run(cuda, report)?;
    if onnxruntime { onnxruntime::run(report) } else { Ok(()) }
}

pub(crate) fn test(args: &[OsString], test_args: &[OsString]) -> Result<ExitCode> {
    set_up(false, true, Report::IfNews)?;
    let mut linked = cargo_on("test", &LINKED, &[]);
    linked.args(args);
    if !test_args.is_empty() {
        linked.arg("--").args(test_args);
    }
    let code = run(&mut linked)?;
    if code != ExitCode::SUCCESS { Ok(code) } else { run(&mut cargo_on("test", &UI, &[])) }
}

/// A check's name, and the command that runs it.
type Step = (&'static str, Command);

fn checks() -> Result<Vec<Step>> {
    let deny = ["--all-targets", "--", "--deny", "warnings"];
    let mut doc = cargo_on("doc", &LINKED, &["--no-deps"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    let mut demo = cargo(["run", "--package", "slim-cli", "--", "demo", "--smoke", "--out"]);
    demo.arg(target().join("ci-demo"));
    let reports = target().join("ci-reports");
    let mut report = cargo(["run", "--package", "slim-cli", "--", "report", "--out"]);
    report.arg(&reports);
    let served = target().join("ci-serving");
    let mut serving = cargo(["run", "--package", "slim-examples", "--example", "serving", "--"]);
    serving.args(["--arch", "resnet18", "--out"]).arg(&served);
    let mut onnx_runtime = cargo(["run", "--package", "slim-onnx-example", "--"]);
    onnx_runtime.arg(served.join("resnet18.onnx"));
    let passes = target().join("ci-passes");
    let mut rooms = Command::new(env::current_exe()?);
    rooms.arg("rooms");
    let mut columns = Command::new(env::current_exe()?);
    columns.arg("columns");
    let mut look = Command::new(env::current_exe()?);
    look.arg("look")
        .args(["vgg.html", "resnet50.html", "densenet121.html"].map(|file| reports.join(file)));
    look.arg(passes.join("report.html")).arg(passes.join("pass-2/prune/report.html"));
    Ok(vec![
        ("format", cargo(["fmt", "--all", "--check"])),
        ("order of modules", rooms),
        ("width of lines", columns),
        ("clippy", cargo_on("clippy", &LINKED, &deny)),
        ("clippy, compile errors", cargo_on("clippy", &UI, &deny)),
        ("tests", cargo_on("test", &LINKED, &[])),
        ("tests, compile errors", cargo_on("test", &UI, &[])),
        ("benches, once each", cargo(["test", "--package", "slim-bench", "--benches"])),
        ("documentation", doc),
        ("demo", demo),
        ("quickstart", cargo(["run", "--package", "slim-examples", "--example", "quickstart"])),
        ("repair", cargo(["run", "--package", "slim-bench", "--bin", "repair", "--", "--smoke"])),
        (
            "choosing",
            cargo(["run", "--package", "slim-bench", "--bin", "choosing", "--", "--smoke"]),
        ),
        ("residual", cargo(["run", "--package", "slim-examples", "--example", "residual"])),
        ("pytorch", cargo(["run", "--package", "slim-examples", "--example", "pytorch"])),
        ("serving", serving),
        ("onnx_runtime", onnx_runtime),
        ("passes", passes_on_digits(&passes)),
        ("reports", report),
        ("reports, in a browser", look),
        // The newest tch in the range of slim-runtime; everything else here runs with tch 0.24.
        ("tch 0.26", versions::check("0.26.0")?),
        ("publishing", publish::dry_run()?),
    ])
}

/// Trains, prunes and fine-tunes a small VGG, in two passes.
fn passes_on_digits(folder: &Path) -> Command {
    // `iterate` would continue an earlier run in this folder.
    let _ = fs::remove_dir_all(folder);
    let mut iterate = cargo([
        "run",
        "--package",
        "slim-cli",
        "--",
        "iterate",
        "--dataset",
        "digits",
        "--cfg",
        "[8, 'M', 16, 'M', 16]",
    ]);
    iterate
        .args([
            "--passes",
            "2",
            "--percent",
            "0.3",
            "--epochs",
            "1",
            "--refine-epochs",
            "1",
            "--save",
        ])
        .arg(folder);
    iterate
}

pub(crate) fn ci() -> Result<ExitCode> {
    for tool in ["fmt", "clippy"] {
        let found = cargo([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            bail!("`cargo {tool}` is not installed: `rustup component add rustfmt clippy`");
        }
    }
    let mut summary = Summary::default();
    summary.step("setup", || set_up(false, true, Report::Always).map(|()| ExitCode::SUCCESS))?;
    for (name, mut command) in checks()? {
        let code = summary.step(name, || run(&mut command))?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps of `ci`: name, whether it passed, and duration. Printed when dropped, so also after a
/// failure.
#[derive(Default)]
struct Summary(Vec<(&'static str, bool, Duration)>);

impl Summary {
    fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        println!("\n== {name}");
        let begun = Instant::now();
        let code = work();
        let passed = matches!(code, Ok(ExitCode::SUCCESS));
        self.0.push((name, passed, begun.elapsed()));
        code
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        println!("\n== summary");
        for (name, passed, time) in &self.0 {
            println!(
                "{} {name:<24} {:>12}",
                if *passed { "ok    " } else { "FAILED" },
                spell_time(*time)
            );
        }
        println!(
            "       {:<24} {:>12}",
            "total",
            spell_time(self.0.iter().map(|(_, _, time)| *time).sum())
        );
    }
}

fn cargo_on(command: &str, packages: &[&str], args: &[&str]) -> Command {
    let mut cargo = cargo([&[command], packages, args].concat());
    // Where tests compute on a GPU (`SLIM_DEVICE`), floats are compared to the precision of f32,
    // which TF32 does not have.
    cargo.env("NVIDIA_TF32_OVERRIDE", "0");
    cargo
}

/// Runs a command that talks to the user itself, and returns its exit code.
pub(crate) fn run(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        // `FAILURE` if a signal ended the command, or if the code does not fit a byte.
        code => {
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    })
}
