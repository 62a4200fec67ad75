//! The table of ratios.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use slim_cli::terminal;
use slim_runtime::Quartiles;

use crate::timing::ratio;

/// The results of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// The number of threads of each side.
    pub threads: i32,
    /// The number of rounds, after one to warm up.
    pub rounds: usize,
    /// The versions of the packages of PyTorch's side, by package.
    pub versions: BTreeMap<String, String>,
    /// The measured ratios.
    pub rows: Vec<Row>,
    /// Notes that explain the rows.
    pub notes: Vec<String>,
}

/// One ratio.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What slim did.
    pub what: String,
    /// What slim is compared with.
    pub against: String,
    /// The times of the other side.
    pub theirs: Quartiles,
    /// The times of slim.
    pub ours: Quartiles,
    /// How the ratio is formed.
    pub measure: Measure,
    /// The median of the ratios of all rounds.
    pub ratio: f64,
    /// The target of the ratio.
    pub target: Option<f64>,
}

/// How a ratio of two times is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The other side's time divided by slim's: how many times as fast slim is. Larger is better.
    Speed,
    /// slim's time divided by the other side's. Smaller is better.
    Time,
    /// The same as `Time`, in percent.
    Share,
}

impl Row {
    /// A row of the times of both sides, in seconds, by round.
    pub fn new(
        what: impl Into<String>,
        ours: &[f64],
        measure: Measure,
        against: impl Into<String>,
        theirs: &[f64],
    ) -> Self {
        let ratio = match measure {
            Measure::Speed => ratio(theirs, ours),
            Measure::Time | Measure::Share => ratio(ours, theirs),
        };
        let (theirs, ours) = (Quartiles::of(theirs), Quartiles::of(ours));
        Self {
            what: what.into(),
            against: against.into(),
            theirs,
            ours,
            measure,
            ratio,
            target: None,
        }
    }

    /// Sets the target of the ratio.
    #[must_use]
    pub fn target(self, target: impl Into<Option<f64>>) -> Self {
        Self { target: target.into(), ..self }
    }

    /// Whether the target is reached; `None` without a target.
    pub fn is_met(&self) -> Option<bool> {
        self.target.map(|target| match self.measure {
            Measure::Speed => self.ratio >= target,
            Measure::Time | Measure::Share => self.ratio <= target,
        })
    }
}

impl Measure {
    fn spell(self, ratio: f64) -> String {
        match self {
            Measure::Speed if ratio >= 10. => format!("{ratio:.0} ×"),
            Measure::Speed | Measure::Time => format!("{ratio:.2} ×"),
            Measure::Share => format!("{:.2} %", ratio * 100.),
        }
    }

    fn spell_target(self, target: f64) -> String {
        match self {
            Measure::Speed => format!("≥ {target} ×"),
            Measure::Time => format!("≤ {target} ×"),
            Measure::Share => format!("≤ {} %", target * 100.),
        }
    }
}

/// Seconds with a unit: `2.60 ms`, `1.80 s`.
pub fn spell_seconds(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 0.1 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 10. => format!("{ms:.2} ms"),
        ms if ms < 1000. => format!("{ms:.1} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            terminal::table(["slim", "it takes", "against", "it takes", "ratio", "target", "met"]);
        for row in &self.rows {
            let target =
                row.target.map(|target| row.measure.spell_target(target)).unwrap_or_default();
            let met = row.is_met().map_or("", |met| if met { "yes" } else { "no" });
            table.add_row([
                row.what.as_str(),
                &spell_seconds(row.ours.median),
                &row.against,
                &spell_seconds(row.theirs.median),
                &row.measure.spell(row.ratio),
                &target,
                met,
            ]);
        }
        table
            .column_mut(2)
            .into_iter()
            .for_each(|column| column.set_cell_alignment(comfy_table::CellAlignment::Left));
        writeln!(f, "{table}\n")?;
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(
            f,
            "on {} with {} threads, medians of {} rounds in turn; {}",
            self.device,
            self.threads,
            self.rounds,
            versions.join(", ")
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_all_measures() -> serde_json::Result<()> {
        let report = Report {
            device: "cpu".into(),
            threads: 2,
            rounds: 3,
            versions: [("torch", "2.11.0"), ("torch_pruning", "1.6.1")]
                .map(|(name, version)| (name.into(), version.into()))
                .into(),
            rows: vec![
                Row::new(
                    "prune resnet50",
                    &[0.010, 0.011, 0.010],
                    Measure::Speed,
                    "Torch-Pruning",
                    &[0.55, 0.55, 0.56],
                )
                .target(40.),
                Row::new("prune resnet152", &[0.05; 3], Measure::Speed, "Torch-Pruning", &[1.8; 3]),
                Row::new(
                    "slim(0.5) of vgg19",
                    &[0.0083; 3],
                    Measure::Time,
                    "copying what stays",
                    &[0.0026; 3],
                )
                .target(2.5),
                Row::new(
                    "sparsity step of vgg19",
                    &[0.000_09; 3],
                    Measure::Share,
                    "training step, 64 images",
                    &[1.5; 3],
                )
                .target(0.01),
            ],
            notes: vec!["half of every layer is removed".into()],
        };
        insta::assert_snapshot!(report);
        let json = serde_json::to_value(&report)?;
        assert_eq!(json["rows"][0]["measure"], "speed");
        assert_eq!(json["rows"][2]["target"], 2.5);
        Ok(())
    }

    #[test]
    fn targets_are_met_at_their_bounds() {
        let row = |measure, ours: f64, target: f64| {
            Row::new("", &[ours], measure, "", &[1.]).target(target).is_met()
        };
        assert_eq!(row(Measure::Speed, 0.5, 2.), Some(true));
        assert_eq!(row(Measure::Speed, 0.51, 2.), Some(false));
        assert_eq!(row(Measure::Time, 1.1, 1.1), Some(true));
        assert_eq!(row(Measure::Share, 0.02, 0.01), Some(false));
        assert_eq!(Row::new("", &[1.], Measure::Time, "", &[1.]).is_met(), None);
    }
}
