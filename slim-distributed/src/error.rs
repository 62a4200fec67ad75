//! What can go wrong.

use std::fmt;

use tch::TchError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Its text states the rule, then the fix. `Debug` is the same text, for
/// programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable of the environment, by which `torchrun` tells each process who it is, is missing
    /// or no number.
    #[error(
        "{variable} {reason}; start the program by `torchrun --no-python`, or without WORLD_SIZE to train in one process"
    )]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A process did not take part: it has died, or did not answer within the timeout. No process
    /// can go on; `torchrun --max-restarts` starts all of them again.
    #[error("rank {rank} cannot {action}: {cause}")]
    Collective {
        /// This process.
        rank: usize,
        /// The operation.
        action: &'static str,
        /// libtorch's words.
        cause: String,
    },

    /// Another process has failed, and none did what was asked for.
    #[error("rank {rank} has failed: {message}")]
    Rank {
        /// The first process that failed.
        rank: usize,
        /// Its error.
        message: String,
    },

    /// Processes have different values of a variable.
    #[error(
        "`{variable}` differs between rank 0 and rank {rank}; broadcast the store at the start, and change it in every process alike"
    )]
    Differs {
        /// The first such variable, by name.
        variable: String,
        /// The first process that has other values than rank 0.
        rank: usize,
    },

    /// Processes have different variables.
    #[error(
        "rank 0 has {main}, and rank {rank} has {own}; build the same network in every process, with the same surgery"
    )]
    Unlike {
        /// This process.
        rank: usize,
        /// The first variable that differs, as rank 0 has it.
        main: String,
        /// As this process has it.
        own: String,
    },

    /// A [`DataParallel`](crate::DataParallel) is used that would not average the gradients of a
    /// variable, because of a change since it was made.
    #[error(
        "`{variable}` was {change} since this `DataParallel` was made; make another after that"
    )]
    Changed {
        /// The first such variable, by name.
        variable: String,
        /// Frozen or unfrozen; given other memory, by slimming that was undone or by another kind.
        change: &'static str,
    },

    /// A [`DataParallel`](crate::DataParallel) is used whose parameters were replaced since it was
    /// made, as slimming does.
    #[error(
        "`{variable}` had the shape {before:?} when this `DataParallel` was made, and has {now:?}; make another after slimming"
    )]
    Stale {
        /// The first such parameter, by name.
        variable: String,
        /// Its shape then.
        before: Vec<i64>,
        /// Its shape now.
        now: Vec<i64>,
    },

    /// An argument is out of its range.
    #[error("`{name}` is {found}: {rule}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        rule: &'static str,
    },

    /// An error of slim-runtime.
    #[error(transparent)]
    Network(#[from] slim_runtime::Error),

    /// An error of libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
