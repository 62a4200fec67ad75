//! Prints a sweep as a table.

use std::fmt;

use super::{Point, Swept};
use crate::plan::Change;
use crate::table::{percent, table};

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dense = &self.dense;
        let row = |point: &Point| {
            let macs = dense.macs.zip(point.macs).map(|(before, after)| share(before, after));
            [
                point.name.clone(),
                format!("{:.4}", point.accuracy),
                share(point.plan.channels().before, point.channels),
                share(dense.parameters, point.parameters),
            ]
            .into_iter()
            .chain(macs)
        };
        let header = ["slimming", "accuracy", "channels", "parameters"]
            .into_iter()
            .chain(dense.macs.map(|_| "MACs"));
        let rows = std::iter::once(dense).chain(&self.points).map(row);
        write!(f, "{}", table(header, 1, rows).trim_fmt())
    }
}

/// `201,856 (24.2 %)`: the number that is left, and its share of the number before.
fn share(before: i64, after: i64) -> String {
    let left = Change { before: after, after };
    format!("{left} ({:>7})", percent(after as f64 / before.max(1) as f64))
}
