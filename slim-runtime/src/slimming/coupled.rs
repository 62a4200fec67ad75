//! Layers that share a ratio, because their channels stay or go together.

use serde::{Deserialize, Serialize};

use super::{Scope, Slimming, Target};

/// Layers whose channels stay or go together, so that they have one ratio: those of a residual
/// stream, or a single layer.
///
/// [`Sensitivity`](crate::Sensitivity) measures each of these groups by itself, and
/// [`Search`](crate::Search) gives each a ratio of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CoupledLayers {
    /// Field paths of the layers that the criterion scores, in the order of the data flow.
    pub layers: Vec<String>,
    /// Number of channels that may go. Each layer counts its own, as in a
    /// [ratio](Slimming::ratio).
    pub removable: usize,
    /// The pattern by which a [`Slimming`] addresses these layers.
    pub pattern: String,
}

impl CoupledLayers {
    /// The path of the first layer, and how many others there are: `layer1.0.bn2 and 2 more`.
    pub fn name(&self) -> String {
        match &self.layers[..] {
            [] => String::new(),
            [only] => only.clone(),
            [first, others @ ..] => format!("{first} and {} more", others.len()),
        }
    }

    /// The ratio that removes `removed` of these channels, by the rule of
    /// [`Slimming::ratio`]: without ties and bounds exactly these.
    pub(crate) fn ratio(&self, removed: usize) -> f64 {
        // The rule removes ⌊N · ratio⌋ + 1 channels. The half keeps the product away from integers,
        // so that rounding cannot change it.
        match removed {
            0 => 0.,
            _ => (removed.min(self.removable) as f64 - 0.5) / self.removable as f64,
        }
    }
}

impl Slimming {
    /// The slimming that removes `removed` channels of each of these groups, and no others, with
    /// the criterion and the bounds of this one. Every group has a target, since the pattern of one
    /// may match layers of another.
    pub(crate) fn of_groups(&self, groups: &[CoupledLayers], removed: &[usize]) -> Self {
        let layers = groups
            .iter()
            .zip(removed)
            .map(|(group, &removed)| (group.pattern.clone(), Target::Ratio(group.ratio(removed))));
        let layers = layers.collect();
        Self { target: Target::Ratio(0.), scope: Scope::Global, layers, ..self.clone() }
    }
}
