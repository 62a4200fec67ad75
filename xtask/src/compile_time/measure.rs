//! Runs the compiler on each crate in turn, in several rounds.

use super::crates::{ALL, Form, SIZES};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// What earlier runs left of a crate before it is compiled. Its dependencies are always compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is reused, and nothing is kept for the next run.
    Cold,
    /// The incremental data of a run in which one field had another name.
    Incremental,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Incremental => "incremental",
        }
    }
}

fn crates() -> impl Iterator<Item = (Form, usize)> {
    SIZES.iter().flat_map(|&fields| ALL.map(|(form, _)| (form, fields)))
}

/// Median seconds of `cargo check`, by crate. The crates take turns, so that other load on the
/// machine affects all of them.
pub(super) fn seconds(folder: &Path, mode: Mode, runs: usize) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); crates().count()];
    // Round 0 compiles the dependencies, and is not counted.
    for run in 0..=runs {
        println!("{}, round {run} of {runs}", mode.name());
        for (times, (form, fields)) in times.iter_mut().zip(crates()) {
            let package = form.package(fields);
            // Written again, so that cargo takes the file for changed.
            fs::write(
                folder.join(&package).join("src/lib.rs"),
                form.source(fields, mode == Mode::Incremental && run % 2 == 1),
            )?;
            let mut check = cargo(folder, mode.name(), &["check", "--package", &package]);
            check.env("CARGO_INCREMENTAL", if mode == Mode::Incremental { "1" } else { "0" });
            let begun = Instant::now();
            output(&mut check)?;
            if run > 0 {
                times.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// The number of lines that are not empty after macro expansion, by crate.
pub(super) fn lines(folder: &Path) -> Result<Vec<usize>> {
    println!("lines of expanded code");
    let count = |(form, fields): (Form, usize)| {
        let package = form.package(fields);
        let mut expand = cargo(
            folder,
            "expanded",
            &["rustc", "--profile", "check", "--package", &package, "--", "-Zunpretty=expanded"],
        );
        // Without this variable, the stable compiler refuses `-Zunpretty`. Some dependencies look
        // for the variable, so they are compiled in a target folder of their own.
        let text = output(expand.env("RUSTC_BOOTSTRAP", "1"))?;
        Ok(text.lines().filter(|line| !line.trim().is_empty()).count())
    };
    crates().map(count).collect()
}

fn cargo(folder: &Path, target: &str, args: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("--quiet")
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target").join(target));
    cargo
}

/// The standard output of a command, which must succeed.
fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().context("cargo does not run")?;
    if !done.status.success() {
        bail!("{command:?} fails:\n{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2. }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3., 1., 2.]), 2.);
        assert_eq!(median(vec![4., 1., 2., 10.]), 3.);
        assert_eq!(median(vec![7.]), 7.);
    }
}
