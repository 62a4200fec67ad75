//! What the macros cost at compile time, next to serde's `Serialize`: seconds and lines of code,
//! cold and incremental, by the number of fields.

mod crates;
mod measure;
mod table;

use crate::workspace::target;
use anyhow::{Context, Result, ensure};
use crates::{ALL, SIZES};
use serde::Serialize;
use std::{fs, path::Path};

/// A macro on a struct of so many fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    /// `derive`, `model`, `serde`; or, without any of them, `layers` and `plain`.
    name: &'static str,
    fields: usize,
    /// Seconds of `cargo check` of the whole crate, when nothing of it was compiled before.
    cold: f64,
    /// Seconds of `cargo check` of the whole crate, when one field was renamed.
    incremental: f64,
    /// Lines of the crate that are not empty, with its macros expanded.
    lines: usize,
    /// The row of the same struct without the macro, to be subtracted.
    without: Option<&'static str>,
}

/// Measures, prints a table, and writes it as JSON where that is asked for.
pub(crate) fn run(runs: usize, json: Option<&Path>) -> Result<()> {
    ensure!(runs > 0, "--runs 0: there is no median of nothing");
    let folder = target().join("compile-time");
    crates::write(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let lines = measure::lines(&folder)?;
    let cold = measure::seconds(&folder, measure::Mode::Cold, runs)?;
    let incremental = measure::seconds(&folder, measure::Mode::Incremental, runs)?;
    let crates =
        SIZES.iter().flat_map(|&fields| ALL.map(|(form, without)| (form, fields, without)));
    let rows: Vec<Row> = crates
        .zip(lines.into_iter().zip(cold.into_iter().zip(incremental)))
        .map(|((form, fields, without), (lines, (cold, incremental)))| {
            let without = without.map(crates::Form::name);
            Row { name: form.name(), fields, cold, incremental, lines, without }
        })
        .collect();
    println!(
        "\n`cargo check`, medians of {runs}: the crate, what the macro takes of it, and that as a multiple of serde's\n\n{}",
        table::spell(&rows)
    );
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
