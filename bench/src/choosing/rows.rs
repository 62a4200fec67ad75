//! The rows: which network, trained how, slimmed how. All are options of `slim`.

use std::fmt;

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// The folder of its checkpoints.
    pub name: &'static str,
    /// Options of `slim train` for the network.
    pub network: &'static str,
    /// Options of `slim train` for the recipe.
    pub recipe: &'static str,
}

/// The widths of the small VGG: 1.2 million parameters, 53 million MACs.
const VGG: &str = "--arch vgg --cfg [32,32,'M',64,64,'M',128,128,'M',256,256]";

const PLAIN: Training = Training { name: "plain", network: VGG, recipe: "--epochs 8" };
const SPARSE: Training = Training {
    name: "sparse",
    network: VGG,
    recipe: "--epochs 8 --sparsity-regularization --s 1e-3",
};
const LASSO: Training = Training {
    name: "lasso",
    network: VGG,
    recipe: "--epochs 8 --sparsity-regularization --penalty group-lasso --s 1e-3",
};
const RESNET: Training = Training {
    name: "resnet20",
    network: "--arch preresnet --depth 20",
    recipe: "--epochs 8 --sparsity-regularization --s 1e-3",
};

/// Fine-tuning behind the whole procedure.
pub(super) const REFINE: &str = "--epochs 4 --lr 0.01";
/// The short fine-tuning that is the same for each method.
pub(super) const REFINE_SHORT: &str = "--epochs 2 --lr 0.01";

/// How much of the network is to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// A half.
    Half,
    /// A quarter.
    Quarter,
}

impl Budget {
    fn name(self) -> &'static str {
        match self {
            Budget::Half => "half",
            Budget::Quarter => "quarter",
        }
    }

    /// The share that is left.
    pub fn share(self) -> f64 {
        match self {
            Budget::Half => 0.5,
            Budget::Quarter => 0.25,
        }
    }
}

/// What a budget is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Multiply-accumulates.
    Macs,
    /// Latency, as a table of measured layers predicts it.
    Latency,
}

/// What chooses the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A ranking of all channels, by these options of `slim prune` beside the budget.
    Ranking(&'static str),
    /// A ratio for each layer, found by these options of `slim search` beside the budget.
    Search(&'static str),
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The reference procedure in PyTorch.
    PyTorch {
        /// Seed of everything that is drawn.
        seed: u64,
    },
    /// The same procedure with slim: train with sparsity, prune, fine-tune.
    Procedure {
        /// The name of the network in the table.
        name: &'static str,
        /// How the network is trained.
        training: Training,
        /// Seed of everything that is drawn.
        seed: u64,
    },
    /// One way to choose channels, at one budget.
    Method {
        /// The name in the table.
        name: &'static str,
        /// How the network is trained.
        training: Training,
        /// What chooses the channels.
        choice: Choice,
        /// How much is left.
        budget: Budget,
        /// What the budget is of.
        limits: Limits,
    },
}

/// The seed of the networks that all methods slim.
pub(super) const SEED: u64 = 1;

/// The options of `slim prune` in the whole procedure.
pub(super) const PERCENT: &str = "--percent 0.5";

/// All rows, in the order in which they are measured: networks that several rows need come first.
pub const ROWS: &[Row] = &[
    Row::PyTorch { seed: 1 },
    Row::Procedure { name: "vgg", training: SPARSE, seed: 1 },
    method("scale-l1", SPARSE, "", Budget::Half),
    method("scale-l1", SPARSE, "", Budget::Quarter),
    method("isomorphic-l1", SPARSE, "--isomorphic", Budget::Half),
    method("isomorphic-l1", SPARSE, "--isomorphic", Budget::Quarter),
    method("taylor-l1", SPARSE, "--criterion group-taylor", Budget::Half),
    method("taylor-l1", SPARSE, "--criterion group-taylor", Budget::Quarter),
    latency("latency-l1", SPARSE, Budget::Half),
    latency("latency-l1", SPARSE, Budget::Quarter),
    method("random-l1", SPARSE, "--criterion random", Budget::Half),
    method("random-l1", SPARSE, "--criterion random", Budget::Quarter),
    search("search-l1", SPARSE, Budget::Half),
    search("search-l1", SPARSE, Budget::Quarter),
    Row::PyTorch { seed: 2 },
    Row::Procedure { name: "vgg", training: SPARSE, seed: 2 },
    Row::Procedure { name: "resnet20", training: RESNET, seed: 1 },
    method("lasso", LASSO, "--criterion scaled-norm", Budget::Half),
    method("lasso", LASSO, "--criterion scaled-norm", Budget::Quarter),
    method("scale", PLAIN, "", Budget::Half),
    method("scale", PLAIN, "", Budget::Quarter),
    method("taylor", PLAIN, "--criterion group-taylor", Budget::Half),
    method("taylor", PLAIN, "--criterion group-taylor", Budget::Quarter),
    method("l2", PLAIN, "--criterion l2 --normalisation mean", Budget::Half),
    method("l2", PLAIN, "--criterion l2 --normalisation mean", Budget::Quarter),
];

const fn method(
    name: &'static str,
    training: Training,
    options: &'static str,
    budget: Budget,
) -> Row {
    let choice = Choice::Ranking(options);
    Row::Method { name, training, choice, budget, limits: Limits::Macs }
}

const fn search(name: &'static str, training: Training, budget: Budget) -> Row {
    let choice = Choice::Search("--recalibrate --generations 10");
    Row::Method { name, training, choice, budget, limits: Limits::Macs }
}

const fn latency(name: &'static str, training: Training, budget: Budget) -> Row {
    let choice = Choice::Ranking("");
    Row::Method { name, training, choice, budget, limits: Limits::Latency }
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<Row> {
        ROWS.iter().copied().find(|row| row.to_string() == name)
    }
}

/// The name by which a row is asked for, and under which its results are kept.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::PyTorch { seed } => write!(f, "PyTorch/{seed}"),
            Row::Procedure { name, seed, .. } => write!(f, "{name}/{seed}"),
            Row::Method { name, budget, .. } => write!(f, "{name}/{}", budget.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        for row in ROWS {
            assert_eq!(Row::named(&row.to_string()), Some(*row));
        }
    }
}
