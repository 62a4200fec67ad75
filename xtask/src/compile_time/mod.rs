//! Measures what the macros cost at compile time, next to serde's `Serialize`: seconds, cold and
//! incremental, and lines of code, by the number of fields.

mod crates;
mod measure;
mod table;

use crate::workspace::target;
use anyhow::{Context, Result, ensure};
use crates::{ALL, SIZES};
use serde::Serialize;
use std::{fs, path::Path};

/// The measurements of one form of crate, whose struct has this number of fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    /// The form: `derive`, `read`, `model` and `serde` have macros; `layers`, `forward` and `plain`
    /// have none.
    name: &'static str,
    fields: usize,
    /// Seconds of `cargo check` of the whole crate, with nothing of it compiled before.
    cold: f64,
    /// Seconds of `cargo check` of the whole crate, after one field was renamed.
    incremental: f64,
    /// Lines of the crate that are not empty, with its macros expanded.
    lines: usize,
    /// The name of the row of the same struct without the macro, which is subtracted.
    without: Option<&'static str>,
}

/// Measures, prints a table, and writes the rows as JSON to the file `json`, if given.
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
