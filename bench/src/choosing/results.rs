//! Results of rows: the file that keeps them, and the tables.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use slim_cli::numbers::percent;

use super::rows::{ROWS, Row};

/// What was measured of a row. Accuracies are percentages of the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// By stage: `dense`, `masked`, `slimmed`, `absorbed`, `refined` …
    pub accuracies: BTreeMap<String, f64>,
    /// Share of the parameters that is left.
    pub parameters: f64,
    /// Share of the multiply-accumulates that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<f64>,
    /// Share of the latency that is left: as the table predicted it, and as measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<[f64; 2]>,
    /// Minutes that the row took, without training that an earlier row had done.
    pub minutes: f64,
}

/// The results of all rows so far, by the name of the row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Results {
    rows: BTreeMap<String, Measured>,
}

impl Results {
    /// Reads the file; there are no results if there is no file.
    ///
    /// # Errors
    /// A file that holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The results of a row.
    pub fn of(&self, row: &Row) -> Option<&Measured> {
        self.rows.get(&row.to_string())
    }

    /// Adds a row and writes the file.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn add(&mut self, row: &Row, measured: Measured, path: &Path) -> Result<()> {
        self.rows.insert(row.to_string(), measured);
        self.write(path)
    }

    /// Writes the file, which is whole at any time.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn write(&self, path: &Path) -> Result<()> {
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_string_pretty(self)? + "\n")
            .and_then(|()| fs::rename(&part, path))
            .with_context(|| path.display().to_string())
    }

    /// The tables, as Markdown. A row that was not measured is left out.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let procedures = ["dense", "masked", "slimmed", "refined"];
        let methods = [
            "dense",
            "slimmed",
            "absorbed",
            "recalibrated",
            "reconstructed",
            "reconstructed and recalibrated",
            "refined",
        ];
        let is_method = |row: &&Row| matches!(row, Row::Method { .. });
        let (ours, others): (Vec<&Row>, Vec<&Row>) = ROWS.iter().partition(is_method);
        for (rows, stages) in [(others, &procedures[..]), (ours, &methods[..])] {
            let cells = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            let header = ["row", "parameters", "MACs"].iter().chain(stages);
            text += &cells(&header.map(|name| (*name).to_owned()).collect::<Vec<_>>());
            text += &cells(&vec!["---".to_owned(); stages.len() + 3]);
            for row in rows {
                let Some(measured) = self.of(row) else { continue };
                let mut line = vec![
                    row.to_string(),
                    percent(measured.parameters),
                    measured.macs.map_or_else(|| "–".to_owned(), percent),
                ];
                line.extend(stages.iter().map(|stage| {
                    let accuracy = measured.accuracies.get(*stage);
                    accuracy.map_or_else(|| "–".to_owned(), |accuracy| format!("{accuracy:.2}"))
                }));
                text += &cells(&line);
            }
            let _ = writeln!(text);
        }
        text + &self.latencies()
    }

    /// The table of the rows whose budget is in latency: the share of the dense network's, as
    /// predicted and as measured.
    fn latencies(&self) -> String {
        let line = |row: &Row| {
            let [predicted, share] = self.of(row)?.latency?.map(percent);
            Some(format!("| {row} | {predicted} | {share} |\n"))
        };
        let lines: String = ROWS.iter().filter_map(line).collect();
        if lines.is_empty() {
            return lines;
        }
        "| row | latency predicted | measured |\n| --- | --- | --- |\n".to_owned() + &lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(stages: &[(&str, f64)]) -> Measured {
        let accuracies = stages.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Measured { accuracies, parameters: 0.25, macs: Some(0.5), latency: None, minutes: 3. }
    }

    #[test]
    fn the_page_has_the_tables_of_all_results() -> Result<()> {
        let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
        let results = Results::read(&bench.join("choosing.json"))?;
        for name in results.rows.keys() {
            assert!(Row::named(name).is_some(), "{name}");
        }
        let page = fs::read_to_string(bench.join("../docs/choosing.md"))?;
        let tables = results.tables();
        assert_eq!(tables.split_terminator("\n\n").count(), 3);
        for table in tables.split_terminator("\n\n") {
            let table = table.trim_end();
            assert!(page.contains(&format!("\n{table}\n\n")), "docs/choosing.md lacks:\n{table}");
        }
        Ok(())
    }

    #[test]
    fn results_are_read_as_they_were_written_and_make_tables() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("results.json");
        let mut results = Results::read(&file)?;
        assert_eq!(results, Results::default());
        let row = |name: &str| Row::named(name).context("no such row");
        results.add(&row("vgg/1")?, measured(&[("dense", 90.), ("refined", 91.5)]), &file)?;
        results.add(&row("scale-l1/half")?, measured(&[("slimmed", 12.345)]), &file)?;
        let timed = Measured { latency: Some([0.5, 0.523]), ..measured(&[("slimmed", 80.)]) };
        results.add(&row("latency-l1/half")?, timed, &file)?;
        assert_eq!(Results::read(&file)?, results);
        insta::assert_snapshot!(results.tables(), @r"
        | row | parameters | MACs | dense | masked | slimmed | refined |
        | --- | --- | --- | --- | --- | --- | --- |
        | vgg/1 | 25.0 % | 50.0 % | 90.00 | – | – | 91.50 |

        | row | parameters | MACs | dense | slimmed | absorbed | recalibrated | reconstructed | reconstructed and recalibrated | refined |
        | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
        | scale-l1/half | 25.0 % | 50.0 % | – | 12.35 | – | – | – | – | – |
        | latency-l1/half | 25.0 % | 50.0 % | – | 80.00 | – | – | – | – | – |

        | row | latency predicted | measured |
        | --- | --- | --- |
        | latency-l1/half | 50.0 % | 52.3 % |
        ");
        fs::write(&file, "{\"vgg/1\": 3}")?;
        assert!(Results::read(&file).is_err());
        Ok(())
    }
}
