//! The table that a person reads.

use std::fmt;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::Absorbed;

use super::{AxisPlan, Change, LayerPlan, Plan, Slimmed, Unscored};

/// Rules above, below the header and below.
const STYLE: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

/// How many lines of a sort a report shows.
const MOST_LINES: usize = 8;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.table().trim_fmt())?;
        writeln!(f, "channels    {} ({:.1} % removed)", self.channels(), 100.0 * self.channels().removed())?;
        writeln!(f, "parameters  {} ({:.1} % removed)", self.parameters(), 100.0 * self.parameters().removed())?;
        let (asked, reached) = (100.0 * self.slimming.ratio, 100.0 * self.reached());
        writeln!(
            f,
            "ratio       {asked:.1} % asked for, {reached:.1} % reached, of the {} channels that may go",
            grouped(self.removable() as i64)
        )?;
        match self.threshold {
            // Where training with sparsity worked, the threshold is close to zero.
            Some(threshold) if threshold < 1e-3 => writeln!(f, "threshold   a channel stays when its |γ| > {threshold:.3e}")?,
            Some(threshold) => writeln!(f, "threshold   a channel stays when its |γ| > {threshold:.6}")?,
            None => writeln!(f, "threshold   none: nothing was to be removed")?,
        }
        write!(f, "cfg         {}", self.cfg())?;
        let floor = self.floored().map(|path| {
            let kept = self.layer(path).and_then(|layer| layer.axis(&layer.scored.as_ref()?.axis)).map_or(0, |axis| axis.keep.len());
            format!("`{path}` would have kept too few channels, and keeps {kept} with the largest |γ|")
        });
        let held = self.layers.iter().filter_map(LayerPlan::held);
        for (label, lines) in [("floor", floor.collect::<Vec<_>>()), ("held", held.collect())] {
            write_lines(f, label, lines)?;
        }
        Ok(())
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, label: &str, lines: Vec<String>) -> fmt::Result {
    for line in lines.iter().take(MOST_LINES) {
        write!(f, "\n{label:<12}{line}")?;
    }
    if lines.len() > MOST_LINES {
        write!(f, "\n{label:<12}and {} more", lines.len() - MOST_LINES)?;
    }
    Ok(())
}

impl fmt::Display for Slimmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)?;
        let lines = self.absorbed.iter().map(Absorbed::to_string).collect();
        write_lines(f, "absorbed", lines)
    }
}

impl Plan {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["layer", "kind", "inputs", "channels", "parameters"]);
        for layer in self.layers.iter().filter(|layer| !layer.tensors.is_empty()) {
            let (inputs, channels) = layer.inputs_and_channels();
            let width = |axis: Option<&AxisPlan>| axis.map(|axis| axis.change().to_string()).unwrap_or_default();
            table.add_row([layer.path.clone(), layer.kind.to_string(), width(inputs), width(channels), layer.parameters().to_string()]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl LayerPlan {
    fn inputs_and_channels(&self) -> (Option<&AxisPlan>, Option<&AxisPlan>) {
        let is_input = |axis: &&AxisPlan| axis.name == "in";
        (self.axes.iter().find(is_input), self.axes.iter().find(|axis| !is_input(axis)))
    }

    /// Which channels may not go, and why.
    fn held(&self) -> Option<String> {
        if let Some(Unscored { axis, channels, held }) = &self.unscored {
            return Some(format!("`{}`: {channels} of {} channels stay: {held}", self.path, self.axis(axis)?.width));
        }
        let scored = self.scored.as_ref()?;
        let (width, hold) = (self.axis(&scored.axis)?.width, scored.held.as_ref()?);
        Some(format!("`{}`: {} of {width} channels stay: {hold}", self.path, width - scored.removable))
    }
}

impl AxisPlan {
    fn change(&self) -> Change {
        Change { before: self.width as i64, after: self.keep.len() as i64 }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before == self.after {
            true => f.write_str(&grouped(self.before)),
            false => write!(f, "{} → {}", grouped(self.before), grouped(self.after)),
        }
    }
}

/// `20,035,018`
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
