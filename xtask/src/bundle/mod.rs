//! Compiled tests for a machine that has libtorch and no Rust: a folder with stripped programs, the
//! files that they read, and a script that runs them.

mod compile;
mod folder;
#[cfg(all(test, unix))]
mod tests;

use crate::{
    setup::{self, Report},
    workspace::{spell_size, spell_time, target},
};
use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, time::Instant};

/// The largest size of a bundle in bytes, so that it can be sent to other machines.
const LIMIT: u64 = 50_000_000;

/// The script that runs the programs; every bundle has it.
const RUN: &str = include_str!("run.sh");

/// Compiles the tests and puts them into `out`, in place of an earlier bundle.
pub(crate) fn run(out: Option<PathBuf>) -> Result<()> {
    let begun = Instant::now();
    let out = out.unwrap_or_else(|| target().join("bundle-cuda"));
    folder::clear(&out)?;
    setup::run(false, Report::IfNews)?;
    let mut programs = compile::tests()?;
    programs.extend(compile::benches()?);
    let size = folder::fill(&out, &programs)
        .with_context(|| format!("cannot make the bundle in {}", out.display()))?;
    println!(
        "{} programs, {} in {}: {}\nrun them with {}",
        programs.len(),
        spell_size(size),
        spell_time(begun.elapsed()),
        out.display(),
        out.join("run.sh").display()
    );
    ensure!(
        size <= LIMIT,
        "a bundle is to be sent about, and this one is larger than {}",
        spell_size(LIMIT)
    );
    Ok(())
}
