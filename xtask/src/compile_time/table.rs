//! The table that is printed.

use super::Row;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

/// For cold and for incremental runs: seconds of the whole crate, seconds that the macro adds, and
/// these as a multiple of the seconds that serde's macro adds. Then lines per field that the macro
/// adds.
pub(super) fn spell(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "fields",
        "what",
        "cold",
        "macro",
        "× serde",
        "renamed",
        "macro",
        "× serde",
        "lines a field",
    ]);
    for row in rows {
        let of = |name: Option<&str>| {
            rows.iter().find(|other| other.fields == row.fields && Some(other.name) == name)
        };
        let added = |row: &Row, value: fn(&Row) -> f64| {
            of(row.without).map(|without| value(row) - value(without))
        };
        let times = |value| {
            let (ours, serdes) = (added(row, value)?, added(of(Some("serde"))?, value)?);
            // There is no ratio to a difference of a few milliseconds, which may be noise.
            (serdes > 0.005).then(|| format!("{:.2}", ours / serdes))
        };
        let seconds = |seconds: Option<f64>| {
            seconds.map(|seconds| format!("{seconds:.3} s")).unwrap_or_default()
        };
        let timed = |value: fn(&Row) -> f64| {
            [
                seconds(Some(value(row))),
                seconds(added(row, value)),
                times(value).unwrap_or_default(),
            ]
        };
        let lines = added(row, |row| row.lines as f64)
            .map(|lines| format!("{:.1}", lines / row.fields as f64))
            .unwrap_or_default();
        let named = [row.fields.to_string(), row.name.to_owned()];
        table.add_row(
            named
                .into_iter()
                .chain(timed(|row| row.cold))
                .chain(timed(|row| row.incremental))
                .chain([lines]),
        );
    }
    table
        .column_iter_mut()
        .enumerate()
        .filter(|(column, _)| *column != 1)
        .for_each(|(_, column)| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_compared_with_what_serde_adds() {
        let row = |name, cold, incremental, lines, without| Row {
            name,
            fields: 100,
            cold,
            incremental,
            lines,
            without,
        };
        let rows = [
            row("layers", 0.20, 0.10, 110, None),
            row("derive", 0.32, 0.16, 510, Some("layers")),
            row("plain", 0.10, 0.05, 105, None),
            row("serde", 0.18, 0.053, 1105, Some("plain")),
        ];
        assert_eq!(
            spell(&rows),
            "\
| fields | what   |    cold |   macro | × serde | renamed |   macro | × serde | lines a field |
|--------|--------|---------|---------|---------|---------|---------|---------|---------------|
|    100 | layers | 0.200 s |         |         | 0.100 s |         |         |               |
|    100 | derive | 0.320 s | 0.120 s |    1.50 | 0.160 s | 0.060 s |         |           4.0 |
|    100 | plain  | 0.100 s |         |         | 0.050 s |         |         |               |
|    100 | serde  | 0.180 s | 0.080 s |    1.00 | 0.053 s | 0.003 s |         |          10.0 |"
        );
    }
}
