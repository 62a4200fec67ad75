//! Prints the measurements as a table.

use std::fmt;

use super::{Measurement, PreferredMultiple};
use crate::serve::benchmark::{faster, with_spread};
use crate::table::table;

impl fmt::Display for PreferredMultiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |tried: &Measurement| {
            let times =
                if tried.multiple == 1 { String::new() } else { faster(&tried.times_as_fast) };
            [
                tried.multiple.to_string(),
                format!("× {:.2}", tried.work),
                with_spread(&tried.seconds),
                times,
            ]
        };
        let rows = self.tried.iter().map(row);
        writeln!(
            f,
            "{}\n",
            table(["multiple", "work", "median (quartiles)", "times as fast"], 0, rows).trim_fmt()
        )?;
        let Self { multiple, device, kind, threads, .. } = self;
        let s = if *threads == 1 { "" } else { "s" };
        match multiple {
            1 => write!(
                f,
                "as it comes is best: none of these is faster by more than the noise ({kind}, {device}, {threads} thread{s})"
            ),
            _ => write!(
                f,
                "multiples of {multiple} are best ({kind}, {device}, {threads} thread{s})"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quartiles;

    #[test]
    fn the_table_shows_what_was_measured() {
        let tried = |multiple, work, milliseconds: f64| {
            let spread =
                |median: f64| Quartiles { lower: 0.98 * median, median, upper: 1.03 * median };
            Measurement {
                multiple,
                work,
                seconds: spread(milliseconds / 1e3),
                times_as_fast: spread(6.5 / milliseconds),
            }
        };
        let preferred = PreferredMultiple {
            multiple: 16,
            tried: vec![
                tried(1, 1., 6.5),
                tried(8, 1.05, 4.2),
                tried(16, 1.11, 3.8),
                tried(64, 1.49, 7.1),
            ],
            device: "cpu".to_owned(),
            kind: "float".to_owned(),
            threads: 2,
        };
        let expected = "
────────────────────────────────────────────────────────────
 multiple     work    median (quartiles)      times as fast
────────────────────────────────────────────────────────────
        1   × 1.00   6.50 ms (6.37–6.69)
        8   × 1.05   4.20 ms (4.12–4.33)      1.5 (1.5–1.6)
       16   × 1.11   3.80 ms (3.72–3.91)      1.7 (1.7–1.8)
       64   × 1.49   7.10 ms (6.96–7.31)   0.92 (0.90–0.94)
────────────────────────────────────────────────────────────

multiples of 16 are best (float, cpu, 2 threads)";
        assert_eq!(preferred.to_string(), expected.trim_start());
        let none = PreferredMultiple { multiple: 1, threads: 1, ..preferred };
        assert!(
            none.to_string().ends_with("\n\nas it comes is best: none of these is faster by more than the noise (float, cpu, 1 thread)"),
            "{none}"
        );
    }
}
