//! Pruning in several passes: the share of the channels that each pass removes.

use anyhow::{Result, ensure};
use clap::ValueEnum;

/// How a share of the original channels is spread over passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PruningSchedule {
    /// The same share of what is left each time, as the paper's multi-pass scheme does
    Constant,
    /// The same number of channels each time
    Linear,
    /// Most at first and little at last (Zhu & Gupta, "To prune, or not to prune", 2017)
    Cubic,
}

impl PruningSchedule {
    /// For each of `passes` passes, the share of the remaining channels to remove, such that all
    /// passes together remove the share `target` of the original channels.
    ///
    /// ```
    /// use slim_cli::passes::PruningSchedule;
    ///
    /// // Half, and half of what is left.
    /// assert_eq!(PruningSchedule::Constant.shares(0.75, 2)?, [0.5, 0.5]);
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    ///
    /// # Errors
    /// A target outside of [0, 1), or no passes.
    pub fn shares(self, target: f64, passes: usize) -> Result<Vec<f64>> {
        ensure!(
            (0.0..1.0).contains(&target),
            "a share of {target} of the channels cannot be removed; it is in [0, 1)"
        );
        ensure!(passes > 0, "it takes at least one pass");
        // Share of the original channels that is left after `pass` passes.
        let left = |pass: usize| {
            let done = pass as f64 / passes as f64;
            match self {
                PruningSchedule::Constant => (1. - target).powf(done),
                PruningSchedule::Linear => 1. - target * done,
                PruningSchedule::Cubic => 1. - target * (1. - (1. - done).powi(3)),
            }
        };
        Ok((0..passes).map(|pass| 1. - left(pass + 1) / left(pass)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pace_arrives() -> Result<()> {
        for pace in [PruningSchedule::Constant, PruningSchedule::Linear, PruningSchedule::Cubic] {
            for passes in 1..8 {
                let shares = pace.shares(0.9, passes)?;
                let left: f64 = shares.iter().map(|share| 1. - share).product();
                assert_eq!(shares.len(), passes);
                assert!((left - 0.1).abs() < 1e-12, "{pace:?}, {passes} passes: {left}");
                assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
            }
        }
        Ok(())
    }

    #[test]
    fn cubic_takes_most_at_first() -> Result<()> {
        let mut left = 1.;
        let gone: Vec<f64> = PruningSchedule::Cubic
            .shares(0.8, 4)?
            .into_iter()
            .map(|share| {
                let goes = left * share;
                left -= goes;
                goes
            })
            .collect();
        assert!(gone.windows(2).all(|pair| pair[0] > pair[1]), "{gone:?}");
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |target, passes| {
            PruningSchedule::Linear.shares(target, passes).err().map(|error| error.to_string())
        };
        assert_eq!(
            refused(1., 2).as_deref(),
            Some("a share of 1 of the channels cannot be removed; it is in [0, 1)")
        );
        assert_eq!(refused(0.5, 0).as_deref(), Some("it takes at least one pass"));
    }
}
