//! Prints a search as a table.

use std::fmt;

use super::Search;
use crate::table::{percent, table};

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(best) = self.best() else { return write!(f, "nothing is measured yet") };
        let rows = self.groups().iter().zip(&best.removed).map(|(group, removed)| {
            [
                group.name(),
                group.removable.to_string(),
                removed.to_string(),
                percent(*removed as f64 / group.removable as f64),
            ]
        });
        let header = ["layers", "channels", "go", "ratio"];
        writeln!(f, "{}", table(header, 1, rows).trim_fmt())?;
        let start = self.history().first().map_or_else(String::new, |start| {
            format!(", {start:.4} after the first of {} generations", self.history().len())
        });
        let value = best.value.unwrap_or_default();
        write!(f, "best {value:.4}{start}, {} evaluations", self.evaluations())
    }
}
