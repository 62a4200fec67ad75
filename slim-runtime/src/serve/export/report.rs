//! Prints the result of an export.

use std::fmt;

use super::{Batch, TorchScript};

impl fmt::Display for TorchScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "wrote {} ({}), for batches of {}; ",
            self.file.display(),
            size(self.bytes),
            self.batch
        )?;
        let magnitude = if self.magnitude >= 0.1 {
            format!("{:.1}", self.magnitude)
        } else {
            format!("{:.1e}", self.magnitude)
        };
        match self.difference {
            0. => write!(f, "its outputs (up to {magnitude}) are the network's, to the bit"),
            difference => write!(
                f,
                "its outputs (up to {magnitude}) differ from the network's by {difference:.1e} at most"
            ),
        }
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Batch::Any => f.write_str("any size"),
            Batch::Only { size, why } => write!(f, "{size} alone (of twice as many: {why})"),
            Batch::Unknown => f.write_str("the sample's size, others were not tried"),
        }
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        ..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
