//! The first generation, and each next one.

use fastrand::Rng;

use super::repair::Budget;
use super::{Individual, Sensitivity, Stored};
use crate::Result;
use crate::select::PerGroup;
use crate::slimming::CoupledLayers;

/// How often a child that equals another individual is drawn anew.
const ATTEMPTS: usize = 8;

/// Makes the first generation.
///
/// # Errors
/// Those of planning.
pub(super) fn begin(stored: &mut Stored, per_group: &PerGroup) -> Result<()> {
    let budget = Budget::new(per_group, per_group.most()?);
    let mut random = Rng::with_seed(stored.generator);
    let groups = per_group.groups();
    let mut starts = vec![per_group.global()?];
    if !budget.is_met(&starts[0]) {
        starts[0] = budget.scaled(&starts[0]);
    }
    let half: Vec<_> = groups.iter().map(|group| group.removable / 2).collect();
    starts.push(budget.scaled(&half));
    // Of the suggestions, which remove more and more, the first that meets the budget.
    let suggested = stored.suggested.iter().find(|removed| budget.is_met(removed));
    if let Some(suggestion) = suggested.or(stored.suggested.last()) {
        starts.push(budget.scaled(suggestion));
    }
    let mut population: Vec<Individual> = Vec::new();
    for removed in starts.iter().map(|removed| per_group.canonical(removed)) {
        if population.len() < stored.size && !population.iter().any(|one| one.removed == removed) {
            population.push(Individual { removed, value: None });
        }
    }
    let starts = population.len();
    while population.len() < stored.size {
        let parent = population[population.len() % starts].removed.clone();
        let child = distinct(&population, &mut random, |random| {
            per_group.canonical(&repaired(&budget, mutated(&parent, groups, random), random))
        });
        population.push(child);
    }
    stored.population = population;
    stored.generator = random.get_seed();
    Ok(())
}

/// Replaces all but the best quarter of a ranked generation.
///
/// # Errors
/// Those of planning.
pub(super) fn next_generation(stored: &mut Stored, per_group: &PerGroup) -> Result<()> {
    let budget = Budget::new(per_group, per_group.most()?);
    let mut random = Rng::with_seed(stored.generator);
    let parents = stored.size.div_ceil(4);
    stored.population.truncate(parents);
    while stored.population.len() < stored.size {
        let child = distinct(&stored.population, &mut random, |random| {
            let mut pick = || {
                // The better of two draws: the population is ranked.
                let place = random.usize(..parents).min(random.usize(..parents));
                &stored.population[place].removed
            };
            let (one, other) = (pick(), pick());
            let mut child = one.clone();
            if random.bool() {
                for (gene, other) in child.iter_mut().zip(other) {
                    if random.bool() {
                        *gene = *other;
                    }
                }
            }
            let mutated = mutated(&child, per_group.groups(), random);
            per_group.canonical(&repaired(&budget, mutated, random))
        });
        stored.population.push(child);
    }
    stored.generation += 1;
    stored.generator = random.get_seed();
    Ok(())
}

/// A child that is not among the individuals, if one is drawn soon; otherwise one that is, with its
/// value.
fn distinct(
    population: &[Individual],
    random: &mut Rng,
    mut draw: impl FnMut(&mut Rng) -> Vec<usize>,
) -> Individual {
    let mut removed = draw(random);
    let known = |removed: &Vec<usize>| population.iter().find(|one| one.removed == *removed);
    for _ in 1..ATTEMPTS {
        if known(&removed).is_none() {
            break;
        }
        removed = draw(random);
    }
    let value = known(&removed).and_then(|one| one.value);
    Individual { removed, value }
}

/// Changes some groups, most of them a little.
fn mutated(parent: &[usize], groups: &[CoupledLayers], random: &mut Rng) -> Vec<usize> {
    let mut child = parent.to_vec();
    let mut order: Vec<_> = (0..groups.len()).collect();
    random.shuffle(&mut order);
    let changes = 1 + random.usize(..groups.len().div_ceil(4));
    for &group in &order[..changes] {
        let all = groups[group].removable;
        // Squared, so that small steps are more frequent: up to half of the channels.
        let draw = random.f64();
        let step = 1 + (0.5 * all as f64 * draw * draw) as usize;
        child[group] = if random.bool() {
            (child[group] + step).min(all)
        } else {
            child[group].saturating_sub(step)
        };
    }
    child
}

/// Meets the budget, and not by more than it has to.
fn repaired(budget: &Budget, child: Vec<usize>, random: &mut Rng) -> Vec<usize> {
    let met = match budget.is_met(&child) {
        true => child,
        false if random.bool() => budget.traded(child, random),
        false => budget.scaled(&child),
    };
    budget.filled(met, random)
}

/// The numbers of channels that each group can lose while its value falls by at most a certain
/// amount, for each amount that was measured, ascending; between two ratios by interpolation.
pub(super) fn tolerated(sensitivity: &Sensitivity) -> Vec<Vec<usize>> {
    let Some(dense) = sensitivity.dense() else { return Vec::new() };
    let values = sensitivity.groups().iter().flat_map(|curve| curve.values.iter().flatten());
    let mut amounts: Vec<f64> = values.map(|value| (dense - value).max(0.)).collect();
    amounts.sort_by(f64::total_cmp);
    amounts.dedup();
    // A file may hold many groups. Amounts at equal ranks are enough.
    let picked = amounts.len().min(MOST_AMOUNTS);
    let amounts = (1..=picked).map(|rank| amounts[rank * amounts.len() / picked - 1]);
    let of = |amount: f64| {
        let curves = sensitivity.groups().iter();
        let removed = curves.map(|curve| {
            let ratio = tolerated_ratio(
                sensitivity.ratios(),
                curve.values.iter().map(|value| dense - value.unwrap_or(dense)),
                amount,
            );
            (ratio * curve.group.removable as f64).round() as usize
        });
        removed.collect()
    };
    amounts.map(of).collect()
}

/// Limit on the suggestions of a sensitivity.
const MOST_AMOUNTS: usize = 64;

/// The ratio up to which a curve of losses stays below `amount`.
fn tolerated_ratio(ratios: &[f64], losses: impl Iterator<Item = f64>, amount: f64) -> f64 {
    let mut last = (0., 0.);
    for (&ratio, loss) in ratios.iter().zip(losses) {
        if loss > amount {
            let share = ((amount - last.1) / (loss - last.1)).clamp(0., 1.);
            return last.0 + share * (ratio - last.0);
        }
        last = (ratio, loss);
    }
    last.0
}
