//! Hyperparameters of training, and what follows from them for each epoch and step.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slim_runtime::{Penalty, Schedule, Slimming};

use crate::network::Arch;
use crate::slimming::ranked_by_default;

/// Fields that may change when training resumes. A teacher's file may be elsewhere; a checkpoint
/// has a fingerprint of its weights.
const MAY_CHANGE: [&str; 3] = ["epochs", "test_batch_size", "teacher"];
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
    /// Factor `s` of the penalty; 0 for none.
    pub sparsity: f64,
    /// What the penalty is on. Checkpoints of older versions have none of the fields from here on,
    /// but for the seed.
    #[serde(default)]
    pub penalty: PenaltyName,
    /// Whether the penalty acts by a proximal step after the optimizer's, in place of its gradient.
    #[serde(default)]
    pub proximal: bool,
    /// Epochs, from 0, without the penalty.
    #[serde(default)]
    pub warm_up: usize,
    /// Epochs after these in which the factor grows to `sparsity`.
    #[serde(default)]
    pub ramp: usize,
    /// Share of the channels that training masks and in the end removes, in [0, 1); 0 for none.
    #[serde(default)]
    pub gradual: f64,
    /// Steps from one mask to the next.
    #[serde(default = "Recipe::default_gradual_every")]
    pub gradual_every: usize,
    /// Share of the channels that are chosen before the first step, driven to zero by a penalty
    /// that grows, and in the end removed, in [0, 1); 0 for none.
    #[serde(default)]
    pub growing: f64,
    /// Factor of that penalty when it has grown.
    #[serde(default = "Recipe::default_growing_factor")]
    pub growing_factor: f64,
    /// File of the network whose outputs are learned besides the labels.
    #[serde(default)]
    pub teacher: Option<PathBuf>,
    /// Temperature by which the outputs of network and teacher are divided.
    #[serde(default = "Recipe::default_temperature")]
    pub temperature: f64,
    /// Weight of the teacher's outputs in the loss, in [0, 1]; the labels have the rest.
    #[serde(default = "Recipe::default_distill_weight")]
    pub distill_weight: f64,
    /// Seed of shuffling, augmentation and dropout.
    pub seed: u64,
}

/// What a penalty is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PenaltyName {
    /// |γ|: Network Slimming
    #[default]
    L1,
    /// γ²
    L2,
    /// The norm of all that goes with a channel: its filter, γ, β, and the weights that read it
    GroupLasso,
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
            penalty: PenaltyName::L1,
            proximal: false,
            warm_up: 0,
            ramp: 0,
            gradual: 0.,
            gradual_every: Self::default_gradual_every(),
            growing: 0.,
            growing_factor: Self::default_growing_factor(),
            teacher: None,
            temperature: Self::default_temperature(),
            distill_weight: Self::default_distill_weight(),
            seed: 1,
        }
    }
}

impl Recipe {
    fn default_gradual_every() -> usize {
        100
    }

    fn default_growing_factor() -> f64 {
        0.5
    }

    fn default_temperature() -> f64 {
        4.
    }

    fn default_distill_weight() -> f64 {
        0.5
    }

    /// What is penalised, as the library names it; `None` without a penalty.
    pub(super) fn penalty(&self) -> Option<Penalty> {
        (self.sparsity > 0.).then_some(match self.penalty {
            PenaltyName::L1 => Penalty::L1,
            PenaltyName::L2 => Penalty::L2,
            PenaltyName::GroupLasso => Penalty::GroupLasso,
        })
    }

    /// The schedule of the penalty's factor, in steps, for epochs of `steps` steps.
    pub(super) fn penalty_schedule(&self, steps: usize) -> Schedule {
        let of = |epochs: usize| epochs.saturating_mul(steps) as u64;
        Schedule::constant().warm_up(of(self.warm_up)).ramp(of(self.ramp))
    }

    /// Whether training ends with a smaller network.
    pub fn prunes(&self) -> bool {
        self.gradual > 0. || self.growing > 0.
    }

    /// What training removes in the end from a network of this kind; `None` if nothing.
    pub(super) fn slimming(&self, arch: Arch) -> Option<Slimming> {
        let slimming =
            self.prunes().then(|| Slimming::ratio(f64::max(self.gradual, self.growing)))?;
        Some(ranked_by_default(slimming, arch.has_batch_norms()))
    }

    /// The schedule of gradual pruning's ratio, for epochs of `steps` steps: it grows over the
    /// first half of all steps, in which the learning rate is at its full value.
    pub(super) fn gradual_schedule(&self, steps: usize) -> Schedule {
        Schedule::constant().cubic_ramp(self.half_of(steps))
    }

    /// The schedule of the growing penalty's factor, for epochs of `steps` steps: it grows over the
    /// first half of all steps.
    pub(super) fn growing_schedule(&self, steps: usize) -> Schedule {
        Schedule::constant().ramp(self.half_of(steps))
    }

    /// Half of all steps, for epochs of `steps` steps.
    fn half_of(&self, steps: usize) -> u64 {
        (self.epochs.saturating_mul(steps) / 2) as u64
    }

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
        let text = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        let differences: Vec<_> = pairs(other)?
            .into_iter()
            .filter(|(name, value)| {
                !MAY_CHANGE.contains(&name.as_str()) && began.get(name) != Some(value)
            })
            .map(|(name, value)| {
                format!(
                    "{} is {} in the checkpoint, and not {}",
                    name.replace('_', "-"),
                    began.get(&name).map(text).unwrap_or_default(),
                    text(&value)
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
        self.check_penalty()?;
        for ratio in [self.gradual, self.growing] {
            ensure!(
                (0.0..1.0).contains(&ratio),
                slim_runtime::Error::Argument(slim_runtime::error::ArgumentError::Ratio(ratio))
            );
        }
        ensure!(
            self.gradual == 0. || self.growing == 0.,
            "--gradual and --growing are two ways to prune while training: take one of them"
        );
        ensure!(self.gradual_every > 0, "masks every 0 steps: say --gradual-every 1 or more");
        ensure!(
            self.growing_factor.is_finite() && self.growing_factor > 0.,
            "a growing penalty with the factor {}: --growing-factor is finite and positive, for instance 0.5",
            self.growing_factor
        );
        ensure!(
            self.temperature.is_finite() && self.temperature > 0.,
            slim_runtime::Error::Argument(slim_runtime::error::ArgumentError::Temperature(
                self.temperature
            ))
        );
        ensure!(
            (0.0..=1.0).contains(&self.distill_weight),
            "a weight of the teacher of {}: --distill-weight is in [0, 1], and the labels have the rest",
            self.distill_weight
        );
        Ok(())
    }

    fn check_penalty(&self) -> Result<()> {
        if self.sparsity == 0. {
            return Ok(());
        }
        ensure!(
            !self.proximal || self.penalty != PenaltyName::GroupLasso,
            "a group lasso has no proximal step: leave out --proximal, or say --penalty l1 or l2"
        );
        ensure!(
            self.warm_up < self.epochs && self.warm_up.saturating_add(self.ramp) <= self.epochs,
            "a warm-up of {} epochs and a ramp of {} do not fit into {} epochs: say a smaller --warm-up or --ramp",
            self.warm_up,
            self.ramp,
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
        // The file of a teacher may have moved.
        began.check_goes_on_by(&Recipe { teacher: Some("moved".into()), ..began.clone() })?;
        let other = Recipe {
            lr: 0.05,
            decay_bn: false,
            penalty: PenaltyName::GroupLasso,
            gradual_every: 7,
            seed: 3,
            ..began.clone()
        };
        let error =
            began.check_goes_on_by(&other).err().map(|error| error.to_string()).unwrap_or_default();
        insta::assert_snapshot!(error, @"training goes on as it began: decay-bn is true in the checkpoint, and not false; gradual-every is 100 in the checkpoint, and not 7; lr is 0.1 in the checkpoint, and not 0.05; penalty is l1 in the checkpoint, and not group-lasso; seed is 1 in the checkpoint, and not 3; leave out the option, or begin anew in another folder");
        Ok(())
    }

    #[test]
    fn a_recipe_of_an_older_version_is_read() -> Result<()> {
        let old = r#"{"epochs":40,"start_epoch":0,"batch_size":64,"test_batch_size":256,"lr":0.1,
            "momentum":0.9,"weight_decay":1e-4,"decay_bn":true,"sparsity":1e-4,"seed":1}"#;
        let read: Recipe = serde_json::from_str(old)?;
        assert_eq!(read, Recipe { epochs: 40, sparsity: 1e-4, ..Recipe::default() });
        assert!(serde_json::from_str::<Recipe>(&old.replace("lr", "rate")).is_err());
        Ok(())
    }

    #[test]
    fn factor_and_ratio_follow_the_epochs() {
        let recipe = Recipe { epochs: 10, warm_up: 2, ramp: 4, gradual: 0.5, ..Recipe::default() };
        let factor = recipe.penalty_schedule(3);
        assert_eq!([0, 6, 12, 18, 29].map(|step| factor.at(step)), [0., 0., 0.5, 1., 1.]);
        let ratio = recipe.gradual_schedule(4);
        assert_eq!([0, 10, 20, 40].map(|step| ratio.at(step)), [0., 0.875, 1., 1.]);
        let growing = recipe.growing_schedule(4);
        assert_eq!([0, 10, 20, 40].map(|step| growing.at(step)), [0., 0.5, 1., 1.]);
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
            Recipe {
                sparsity: 1e-4,
                proximal: true,
                penalty: PenaltyName::GroupLasso,
                ..default()
            },
            Recipe { sparsity: 1e-4, warm_up: 160, ..default() },
            Recipe { sparsity: 1e-4, warm_up: 80, ramp: 81, ..default() },
            Recipe { gradual: 1., ..default() },
            Recipe { gradual_every: 0, ..default() },
            Recipe { growing: -0.5, ..default() },
            Recipe { growing: 0.5, gradual: 0.5, ..default() },
            Recipe { growing: 0.5, growing_factor: 0., ..default() },
            Recipe { temperature: 0., ..default() },
            Recipe { distill_weight: 1.5, ..default() },
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
        a group lasso has no proximal step: leave out --proximal, or say --penalty l1 or l2
        a warm-up of 160 epochs and a ramp of 0 do not fit into 160 epochs: say a smaller --warm-up or --ramp
        a warm-up of 80 epochs and a ramp of 81 do not fit into 160 epochs: say a smaller --warm-up or --ramp
        ratio 1: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them
        masks every 0 steps: say --gradual-every 1 or more
        ratio -0.5: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them
        --gradual and --growing are two ways to prune while training: take one of them
        a growing penalty with the factor 0: --growing-factor is finite and positive, for instance 0.5
        temperature 0: it must be finite and positive, for instance 4
        a weight of the teacher of 1.5: --distill-weight is in [0, 1], and the labels have the rest
        ");
    }
}
