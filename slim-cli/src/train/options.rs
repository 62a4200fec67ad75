//! The [`Recipe`] as command-line options.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{PenaltyName, Recipe};
use crate::network::Arch;

/// The options of a program that trains. What is left out is the reference's, or what a checkpoint
/// says.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Training")]
pub struct RecipeOptions {
    /// Train with channel sparsity (-sr): a penalty parts the channels that matter from those that
    /// can go
    #[arg(long = "sparsity-regularization", alias = "sr")]
    pub sr: bool,
    /// Factor of the penalty [default: 1e-4 for vgg, 1e-5 for the others]
    #[arg(long, value_name = "S", requires = "sr")]
    pub s: Option<f64>,
    /// What the penalty is on [default: l1]
    #[arg(long, value_enum, requires = "sr")]
    pub penalty: Option<PenaltyName>,
    /// Shrink γ after each step (soft thresholding, for l1), in place of adding the penalty's
    /// gradient before it: γ become exactly zero
    #[arg(long, requires = "sr")]
    pub proximal: bool,
    /// Epochs at first without the penalty [default: 0]
    #[arg(long, value_name = "EPOCHS", requires = "sr")]
    pub warm_up: Option<usize>,
    /// Epochs after these in which its factor grows to S [default: 0]
    #[arg(long, value_name = "EPOCHS", requires = "sr")]
    pub ramp: Option<usize>,
    /// Passes over the training images; the learning rate falls to a tenth at half of them, and
    /// again at three quarters [default: 160]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// First epoch, from 0; those before count as done: 100 of 160 starts at a tenth of the
    /// learning rate, where the reference's starts at the full one [default: 0]
    #[arg(long, value_name = "N")]
    pub start_epoch: Option<usize>,
    /// Images of a step [default: 64]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Images of a forward pass that tests [default: 256]
    #[arg(long, value_name = "N")]
    pub test_batch_size: Option<usize>,
    /// Learning rate at first [default: 0.1]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long)]
    pub momentum: Option<f64>,
    /// Weight decay, of γ and β too [default: 1e-4]
    #[arg(long, visible_alias = "wd")]
    pub weight_decay: Option<f64>,
    /// Leave γ and β out of weight decay: it makes all γ small, which hides the work of the penalty
    #[arg(long)]
    pub no_decay_bn: bool,
    /// Seed of starting values, shuffling and augmentation [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
}

impl RecipeOptions {
    /// The recipe with these options applied. `arch` gives the default factor of the penalty.
    pub fn applied_to(&self, recipe: &Recipe, arch: Arch) -> Recipe {
        let factor = match recipe.sparsity {
            0. => arch.default_sparsity(),
            sparsity => sparsity,
        };
        Recipe {
            epochs: self.epochs.unwrap_or(recipe.epochs),
            start_epoch: self.start_epoch.unwrap_or(recipe.start_epoch),
            batch_size: self.batch_size.unwrap_or(recipe.batch_size),
            test_batch_size: self.test_batch_size.unwrap_or(recipe.test_batch_size),
            lr: self.lr.unwrap_or(recipe.lr),
            momentum: self.momentum.unwrap_or(recipe.momentum),
            weight_decay: self.weight_decay.unwrap_or(recipe.weight_decay),
            decay_bn: recipe.decay_bn && !self.no_decay_bn,
            sparsity: if self.sr { self.s.unwrap_or(factor) } else { recipe.sparsity },
            penalty: self.penalty.unwrap_or(recipe.penalty),
            proximal: recipe.proximal || self.proximal,
            warm_up: self.warm_up.unwrap_or(recipe.warm_up),
            ramp: self.ramp.unwrap_or(recipe.ramp),
            seed: self.seed.unwrap_or(recipe.seed),
            ..recipe.clone()
        }
    }
}

/// The options for pruning while training.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Pruning while training")]
pub struct PruningOptions {
    /// Prune this share of the channels while training: masks by |γ| that are made anew, and grow
    /// to this share over the first half of the steps. In the end the channels are cut out
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub gradual: Option<f64>,
    /// Steps from one mask to the next, in which masked channels may grow back [default: 100]
    #[arg(long, value_name = "STEPS", requires = "gradual")]
    pub gradual_every: Option<usize>,
    /// Choose this share of the channels before the first step, those with the smallest |γ|; a
    /// penalty on all that goes with them grows over the first half of the steps and drives them to
    /// zero. In the end they are cut out. For a network that is trained already (--refine)
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, conflicts_with = "gradual")]
    pub growing: Option<f64>,
    /// Factor of that penalty when it has grown [default: 0.5]
    #[arg(long, value_name = "FACTOR", requires = "growing")]
    pub growing_factor: Option<f64>,
}

impl PruningOptions {
    /// The recipe with these options applied.
    pub fn applied_to(&self, recipe: Recipe) -> Recipe {
        Recipe {
            gradual: self.gradual.unwrap_or(recipe.gradual),
            gradual_every: self.gradual_every.unwrap_or(recipe.gradual_every),
            growing: self.growing.unwrap_or(recipe.growing),
            growing_factor: self.growing_factor.unwrap_or(recipe.growing_factor),
            ..recipe
        }
    }
}

/// The options for learning from another network.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Distillation")]
pub struct DistillationOptions {
    /// Learn the outputs of the network in this file besides the labels, such as those of the
    /// network before it was pruned
    #[arg(long, value_name = "FILE")]
    pub teacher: Option<PathBuf>,
    /// Divides the outputs of both networks, so that small probabilities count [default: 4]
    #[arg(long, value_name = "T", requires = "teacher")]
    pub temperature: Option<f64>,
    /// Weight of the teacher's outputs in the loss, in [0, 1]; the labels have the rest [default:
    /// 0.5]
    #[arg(long, value_name = "WEIGHT", requires = "teacher")]
    pub distill_weight: Option<f64>,
}

impl DistillationOptions {
    /// The recipe with these options applied. It names the teacher's file by its absolute path, so
    /// that training resumes from any folder.
    ///
    /// # Errors
    /// A path that cannot be made absolute.
    pub fn applied_to(&self, recipe: Recipe) -> Result<Recipe> {
        let absolute = |file: &PathBuf| {
            std::path::absolute(file).with_context(|| format!("--teacher {}", file.display()))
        };
        Ok(Recipe {
            teacher: self.teacher.as_ref().map(absolute).transpose()?.or(recipe.teacher),
            temperature: self.temperature.unwrap_or(recipe.temperature),
            distill_weight: self.distill_weight.unwrap_or(recipe.distill_weight),
            ..recipe
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        recipe: RecipeOptions,
        #[command(flatten)]
        pruning: PruningOptions,
        #[command(flatten)]
        distillation: DistillationOptions,
    }

    fn recipe(line: &str, before: &Recipe, arch: Arch) -> Result<Recipe> {
        let given = std::iter::once("train").chain(line.split_whitespace());
        let Program { recipe, pruning, distillation } = Program::try_parse_from(given)?;
        distillation.applied_to(pruning.applied_to(recipe.applied_to(before, arch)))
    }

    #[test]
    fn the_references_options_make_its_recipe() -> Result<()> {
        let default = Recipe::default();
        assert_eq!(recipe("", &default, Arch::Vgg)?, default);
        assert_eq!(
            recipe("--sr", &default, Arch::Vgg)?,
            Recipe { sparsity: 1e-4, ..default.clone() }
        );
        assert_eq!(
            recipe("--sr", &default, Arch::Preresnet)?,
            Recipe { sparsity: 1e-5, ..default.clone() }
        );
        let all = "--sr --s 0.001 --epochs 40 --start-epoch 3 --batch-size 100 --test-batch-size 1000 --lr 0.05 --momentum 0.8 --wd 5e-4 --no-decay-bn --seed 7 --penalty group-lasso --warm-up 2 --ramp 5 --gradual 0.6 --gradual-every 50 --teacher /dense.safetensors --temperature 2 --distill-weight 0.9";
        let wanted = Recipe {
            epochs: 40,
            start_epoch: 3,
            batch_size: 100,
            test_batch_size: 1000,
            lr: 0.05,
            momentum: 0.8,
            weight_decay: 5e-4,
            decay_bn: false,
            sparsity: 0.001,
            penalty: PenaltyName::GroupLasso,
            proximal: false,
            warm_up: 2,
            ramp: 5,
            gradual: 0.6,
            gradual_every: 50,
            growing: 0.,
            growing_factor: 0.5,
            teacher: Some("/dense.safetensors".into()),
            temperature: 2.,
            distill_weight: 0.9,
            seed: 7,
        };
        assert_eq!(recipe(all, &default, Arch::Vgg)?, wanted);
        assert_eq!(
            recipe("--growing 0.5 --growing-factor 2", &default, Arch::Vgg)?,
            Recipe { growing: 0.5, growing_factor: 2., ..default.clone() }
        );
        // Options that are left out keep the checkpoint's values.
        assert_eq!(recipe("", &wanted, Arch::Vgg)?, wanted);
        assert_eq!(recipe("--sr", &wanted, Arch::Vgg)?, wanted);
        Ok(())
    }

    #[test]
    fn an_option_that_would_do_nothing_alone_names_the_one_that_it_needs() {
        for (line, needed) in [
            ("--s 0.001", "--sparsity-regularization"),
            ("--penalty l2", "--sparsity-regularization"),
            ("--proximal", "--sparsity-regularization"),
            ("--warm-up 1", "--sparsity-regularization"),
            ("--ramp 1", "--sparsity-regularization"),
            ("--gradual-every 10", "--gradual"),
            ("--growing-factor 1", "--growing"),
            ("--temperature 2", "--teacher"),
            ("--distill-weight 0.9", "--teacher"),
        ] {
            let error = recipe(line, &Recipe::default(), Arch::Vgg)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(error.contains(needed), "{line}: {error}");
        }
    }
}
