//! The cost as a table.

use std::fmt;

use comfy_table::{CellAlignment, Table};

use super::{Cost, LayerCost};
use crate::table::{MOST_LINES, STYLE, grouped};

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.table().trim_fmt())?;
        writeln!(f, "parameters  {}", grouped(self.parameters()))?;
        match self.macs() {
            Ok(macs) => write!(f, "MACs        {} for one sample", grouped(macs))?,
            Err(_) => write!(f, "MACs        not all counted")?,
        }
        for reason in self.uncounted().take(MOST_LINES) {
            write!(f, "\nuncounted   {reason}")?;
        }
        match self.uncounted().count().checked_sub(MOST_LINES) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\nuncounted   and {more} more"),
        }
    }
}

impl Cost {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["layer", "kind", "parameters", "MACs"]);
        for layer in self.layers.iter().filter(|layer| layer.has_tensors_of_its_own()) {
            let macs = layer.macs.map_or_else(|| "uncounted".to_owned(), grouped);
            table.add_row([
                layer.path.clone(),
                layer.kind.to_string(),
                grouped(layer.parameters),
                macs,
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl LayerCost {
    /// `false` for a pool, and for another application of the same layer: neither has a row in the
    /// table.
    fn has_tensors_of_its_own(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.tied.is_none())
    }
}
