//! The [`Recipe`] as command-line options.

use clap::Args;

use super::Recipe;
use crate::network::Arch;

/// The options of a program that trains. What is left out is the reference's, or what a checkpoint
/// says.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Training")]
pub struct RecipeOptions {
    /// Train with channel sparsity (-sr): an L1 penalty on γ parts the channels that matter from
    /// those that can go
    #[arg(long = "sparsity-regularization", alias = "sr")]
    pub sr: bool,
    /// Factor of the penalty [default: 1e-4 for vgg, 1e-5 for the others]
    #[arg(long, value_name = "S", requires = "sr")]
    pub s: Option<f64>,
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
            seed: self.seed.unwrap_or(recipe.seed),
        }
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
    }

    fn recipe(line: &str, before: &Recipe, arch: Arch) -> Result<Recipe> {
        let given = std::iter::once("train").chain(line.split_whitespace());
        Ok(Program::try_parse_from(given)?.recipe.applied_to(before, arch))
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
        let all = "--sr --s 0.001 --epochs 40 --start-epoch 3 --batch-size 100 --test-batch-size 1000 --lr 0.05 --momentum 0.8 --wd 5e-4 --no-decay-bn --seed 7";
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
            seed: 7,
        };
        assert_eq!(recipe(all, &default, Arch::Vgg)?, wanted);
        // Options that are left out keep the checkpoint's values.
        assert_eq!(recipe("", &wanted, Arch::Vgg)?, wanted);
        assert_eq!(recipe("--sr", &wanted, Arch::Vgg)?, wanted);
        Ok(())
    }

    #[test]
    fn a_factor_without_the_penalty_would_do_nothing() {
        let error = recipe("--s 0.001", &Recipe::default(), Arch::Vgg)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("--sparsity-regularization"), "{error}");
    }
}
