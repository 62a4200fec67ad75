//! Plot of channels before and after, layer by layer.

use anyhow::Result;

use super::ink::{AFTER, BEFORE};
use super::rows::{Row, rows};
use crate::numbers::grouped;

/// A bar for each layer. The whole bar is the width before, the filled part the width after.
pub(in crate::report) fn channels(layers: &[(String, i64, i64)]) -> Result<String> {
    let widest = layers.iter().map(|layer| layer.1).max().unwrap_or(0).max(1) as f64;
    let numbered: Vec<_> = layers
        .iter()
        .map(|(path, before, after)| Row {
            name: path.clone(),
            number: format!("{} → {}", grouped(*before), grouped(*after)),
        })
        .collect();
    let label = format!(
        "Channels of {} layers before and after, as bars; the same numbers are in the plan's table.",
        layers.len()
    );
    rows(&label, &numbered, 0, |canvas, frame| {
        for (index, &(_, before, after)) in layers.iter().enumerate() {
            let middle = frame.middle(index);
            for (channels, ink) in [(before, BEFORE), (after, AFTER)] {
                canvas.bar(
                    (frame.left, middle - 5),
                    (frame.across(channels as f64 / widest), middle + 5),
                    ink,
                    1.,
                )?;
            }
        }
        Ok(())
    })
}
