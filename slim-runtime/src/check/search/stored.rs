//! The state of a search, as it is saved.

use serde::{Deserialize, Serialize};

use super::{Individual, Search};
use crate::check::{check_finite, check_groups};
use crate::slimming::{CoupledLayers, Slimming};

/// Version of the JSON.
pub(super) const FORMAT: u32 = 1;

/// Limit on the individuals of a population.
pub(super) const MOST_INDIVIDUALS: usize = 1 << 16;

/// Everything that a search consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) format: u32,
    /// Its target is the budget.
    pub(super) slimming: Slimming,
    /// Hashes of the network and its scores.
    pub(super) network: String,
    pub(super) scores: String,
    pub(super) groups: Vec<CoupledLayers>,
    /// Number of individuals.
    pub(super) size: usize,
    /// State of the random generator; before the search has begun, its seed.
    pub(super) generator: u64,
    /// Individuals for the first generation.
    pub(super) suggested: Vec<Vec<usize>>,
    /// Number of the current generation; the first is 0.
    pub(super) generation: usize,
    /// The individuals of the current generation. When all of them are measured, they are sorted:
    /// the best first.
    pub(super) population: Vec<Individual>,
    /// The best value after each complete generation.
    pub(super) history: Vec<f64>,
    pub(super) evaluations: usize,
}

impl Stored {
    /// Ranks a generation whose individuals are all measured.
    pub(super) fn complete_generation(&mut self) {
        if self.history.len() > self.generation {
            return;
        }
        let value = |individual: &Individual| individual.value.unwrap_or(f64::NEG_INFINITY);
        // Stable: of equal ones, survivors come first.
        self.population.sort_by(|a, b| value(b).total_cmp(&value(a)));
        self.history.extend(self.population.first().map(value));
    }
}

impl From<Search> for Stored {
    fn from(search: Search) -> Self {
        search.stored
    }
}

impl TryFrom<Stored> for Search {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored { format, slimming, groups, population, size, history, .. } = &stored;
        if *format != FORMAT {
            return Err(format!("format {format} is unknown, only {FORMAT} can be read"));
        }
        slimming.check().map_err(|error| error.to_string())?;
        check_groups(groups.iter())?;
        if !(2..=MOST_INDIVIDUALS).contains(size) {
            return Err(format!("a population of {size} is not possible"));
        }
        if !population.is_empty() && population.len() != *size {
            return Err(format!("it has {} individuals of {size}", population.len()));
        }
        let fits = |removed: &Vec<usize>| {
            removed.len() == groups.len()
                && removed.iter().zip(groups).all(|(&removed, group)| removed <= group.removable)
        };
        let mut all =
            population.iter().map(|individual| &individual.removed).chain(&stored.suggested);
        if !all.all(fits) {
            return Err("an individual removes channels that its groups do not have".to_owned());
        }
        check_finite(population.iter().filter_map(|individual| individual.value))?;
        check_finite(history.iter().copied())?;
        let open = population.iter().any(|individual| individual.value.is_none());
        let complete = stored
            .generation
            .checked_add(usize::from(!open && !population.is_empty()))
            .ok_or_else(|| format!("generation {} is not possible", stored.generation))?;
        if history.len() != complete {
            return Err(format!(
                "it has the best values of {} generations, and {complete} are complete",
                history.len()
            ));
        }
        let ranked = population.windows(2).all(|pair| pair[0].value >= pair[1].value);
        if !open && !ranked {
            return Err("its complete generation is not in the order of its values".to_owned());
        }
        Ok(Self { stored })
    }
}
