//! Hyperparameters of training, and what follows from them for each epoch and step.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Fields that may change when training resumes.
const MAY_CHANGE: [&str; 2] = ["epochs", "test_batch_size"];
/// Largest number of epochs. A larger number is taken for a mistake.
const MOST_EPOCHS: usize = 1_000_000;

/// Hyperparameters of training. The defaults are the reference's, without sparsity.
///
/// Two runs of one recipe on the same data and the same machine with one thread give the same
/// weights, to the bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training data. The learning rate falls at 50 % and 75 % of them.
    pub epochs: usize,
    /// The first epoch, from 0. Earlier epochs count as done.
    pub start_epoch: usize,
    /// Batch size of training steps.
    pub batch_size: usize,
    /// Batch size of test passes. It does not affect the weights.
    pub test_batch_size: usize,
    /// Learning rate of the first epochs.
    pub lr: f64,
    /// Share of the last step's direction that is kept.
    pub momentum: f64,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Whether weight decay includes γ and β, as in the reference. Decay makes all γ small, whereas
    /// the L1 penalty should separate them.
    pub decay_bn: bool,
    /// Factor `s` of the L1 penalty on γ; 0 for none.
    pub sparsity: f64,
    /// Seed of shuffling, augmentation and dropout.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 160,
            start_epoch: 0,
            batch_size: 64,
            test_batch_size: 256,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            decay_bn: true,
            sparsity: 0.,
            seed: 1,
        }
    }
}

impl Recipe {
    /// The learning rate of an epoch, counted from 0.
    pub fn rate(&self, epoch: usize) -> f64 {
        // Round up. The reference compares epochs with fractions, so its rate does not fall if
        // these are not whole numbers.
        let milestones = [self.epochs - self.epochs / 2, self.epochs - self.epochs / 4];
        milestones
            .into_iter()
            .filter(|&milestone| milestone <= epoch)
            .fold(self.lr, |rate, _| rate * 0.1)
    }

    /// Seed of an epoch's shuffling and augmentation.
    pub(super) fn epoch_seed(&self, epoch: usize) -> u64 {
        mixed(self.seed, epoch)
    }

    /// Seed of a step's draws, such as those of dropout. Each step has its own seed, so that
    /// training that resumes within an epoch draws the same numbers.
    pub(super) fn step_seed(&self, epoch: usize, step: usize) -> i64 {
        mixed(!self.epoch_seed(epoch), step) as i64
    }

    /// The seed of a step's draws in one of several processes, which draw for different images.
    /// That of rank 0 is that of a process that is alone.
    pub(super) fn seed_of_rank(&self, epoch: usize, step: usize, rank: usize) -> i64 {
        match self.step_seed(epoch, step) {
            seed if rank == 0 => seed,
            seed => mixed(seed as u64, rank) as i64,
        }
    }

    /// Checks that training that began with this recipe can resume with `other`. The number of
    /// epochs may differ: the learning rate of the remaining epochs then follows the new number.
    ///
    /// # Errors
    /// The recipes differ in other fields.
    pub(super) fn check_goes_on_by(&self, other: &Recipe) -> Result<()> {
        let pairs = |recipe| -> Result<_> {
            Ok(serde_json::to_value(recipe)?.as_object().cloned().unwrap_or_default())
        };
        let began = pairs(self)?;
        let differences: Vec<_> = pairs(other)?
            .into_iter()
            .filter(|(name, value)| {
                !MAY_CHANGE.contains(&name.as_str()) && began.get(name) != Some(value)
            })
            .map(|(name, value)| {
                format!(
                    "{} is {} in the checkpoint, and not {value}",
                    name.replace('_', "-"),
                    began.get(&name).unwrap_or_default()
                )
            })
            .collect();
        ensure!(
            differences.is_empty(),
            "training goes on as it began: {}; leave out the option, or begin anew in another folder",
            differences.join("; ")
        );
        Ok(())
    }

    /// Checks the values, as training does before anything else.
    ///
    /// # Errors
    /// A value out of range.
    pub fn check(&self) -> Result<()> {
        let not_negative = |name, value: f64| {
            ensure!(
                value.is_finite() && value >= 0.,
                "a {name} of {value}: it must be finite and not negative"
            );
            Ok(())
        };
        not_negative("learning rate", self.lr)?;
        not_negative("weight decay", self.weight_decay)?;
        not_negative("sparsity", self.sparsity)?;
        ensure!(
            (0.0..1.0).contains(&self.momentum),
            "a momentum of {}: it must be in [0, 1)",
            self.momentum
        );
        ensure!(self.batch_size > 0 && self.test_batch_size > 0, "a batch has at least one image");
        ensure!(self.epochs > 0, "training takes at least one epoch");
        ensure!(self.epochs <= MOST_EPOCHS, "{} epochs: {MOST_EPOCHS} are the most", self.epochs);
        ensure!(
            self.start_epoch < self.epochs,
            "it cannot start at epoch {} of {}: they are counted from 0",
            self.start_epoch,
            self.epochs
        );
        Ok(())
    }
}

fn mixed(seed: u64, number: usize) -> u64 {
    // The generator alone would turn neighbouring seeds into neighbouring numbers.
    let first = fastrand::Rng::with_seed(seed).u64(..);
    fastrand::Rng::with_seed(first ^ number as u64).u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates of
    /// `for epoch in range(epochs): if epoch in [epochs * 0.5, epochs * 0.75]: lr *= 0.1`.
    fn reference(epochs: usize) -> Vec<f64> {
        let mut lr = 0.1;
        let milestones = [epochs as f64 * 0.5, epochs as f64 * 0.75];
        (0..epochs)
            .map(|epoch| {
                if milestones.contains(&(epoch as f64)) {
                    lr *= 0.1;
                }
                lr
            })
            .collect()
    }

    #[test]
    fn the_rate_falls_where_the_references_does() {
        let rates = |epochs| {
            (0..epochs)
                .map(|epoch| Recipe { epochs, ..Recipe::default() }.rate(epoch))
                .collect::<Vec<_>>()
        };
        for epochs in [2, 4, 40, 160, 200] {
            assert_eq!(rates(epochs), reference(epochs), "{epochs} epochs");
        }
        // Where the reference's rate would not fall, it falls at the next epoch.
        assert_eq!(rates(1), [0.1]);
        assert_eq!(
            [14, 15, 22, 23].map(|epoch| rates(30)[epoch]),
            [79, 80, 119, 120].map(|epoch| rates(160)[epoch])
        );
        let rates = [0, 79, 80, 119, 120, 159].map(|epoch| Recipe::default().rate(epoch));
        assert_eq!(
            rates.map(|rate| format!("{rate:.4}")),
            ["0.1000", "0.1000", "0.0100", "0.0100", "0.0010", "0.0010"]
        );
    }

    #[test]
    fn every_epoch_and_step_draws_by_a_seed_of_its_own() {
        let recipes = (0..4).map(|seed| Recipe { seed, ..Recipe::default() });
        let mut seeds: Vec<_> = recipes
            .flat_map(|recipe| {
                let of_epoch = |epoch: usize| {
                    let recipe = recipe.clone();
                    let steps = (0..50).map(move |step| recipe.step_seed(epoch, step) as u64);
                    steps.collect::<Vec<_>>()
                };
                (0..20)
                    .flat_map(|epoch| of_epoch(epoch).into_iter().chain([recipe.epoch_seed(epoch)]))
                    .collect::<Vec<_>>()
            })
            .collect();
        let all = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!((all, seeds.len()), (4 * 20 * 51, all));
    }

    #[test]
    fn training_goes_on_by_its_recipe_but_for_the_number_of_epochs() -> Result<()> {
        let began = Recipe::default();
        began.check_goes_on_by(&Recipe { epochs: 200, test_batch_size: 7, ..began.clone() })?;
        let other = Recipe { lr: 0.05, decay_bn: false, seed: 3, ..began.clone() };
        let error =
            began.check_goes_on_by(&other).err().map(|error| error.to_string()).unwrap_or_default();
        insta::assert_snapshot!(error, @"training goes on as it began: decay-bn is true in the checkpoint, and not false; lr is 0.1 in the checkpoint, and not 0.05; seed is 1 in the checkpoint, and not 3; leave out the option, or begin anew in another folder");
        Ok(())
    }

    #[test]
    fn numbers_that_nothing_can_be_trained_with() {
        let default = Recipe::default;
        let wrong = [
            Recipe { lr: f64::NAN, ..default() },
            Recipe { weight_decay: -1e-4, ..default() },
            Recipe { sparsity: f64::INFINITY, ..default() },
            Recipe { momentum: 1., ..default() },
            Recipe { batch_size: 0, ..default() },
            Recipe { epochs: 0, ..default() },
            Recipe { epochs: usize::MAX, ..default() },
            Recipe { start_epoch: 160, ..default() },
        ];
        let texts: Vec<_> = wrong
            .iter()
            .map(|recipe| recipe.check().err().map(|error| error.to_string()).unwrap_or_default())
            .collect();
        insta::assert_snapshot!(texts.join("\n"), @r"
        a learning rate of NaN: it must be finite and not negative
        a weight decay of -0.0001: it must be finite and not negative
        a sparsity of inf: it must be finite and not negative
        a momentum of 1: it must be in [0, 1)
        a batch has at least one image
        training takes at least one epoch
        18446744073709551615 epochs: 1000000 are the most
        it cannot start at epoch 160 of 160: they are counted from 0
        ");
    }
}
