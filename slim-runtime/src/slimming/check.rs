//! Validates a slimming.

use super::{Pattern, Rounding, Slimming, Target};
use crate::error::{ArgumentError, SelectionError};
use crate::{Activation, Error, Result};

impl Slimming {
    /// # Errors
    /// [`ArgumentError::Ratio`](crate::error::ArgumentError::Ratio),
    /// [`ArgumentError::Activation`](crate::error::ArgumentError::Activation),
    /// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming).
    pub(crate) fn check(&self) -> Result<()> {
        self.target.check()?;
        if let Some(Err(parameter)) =
            self.absorb.and_then(|absorb| absorb.after).map(Activation::check)
        {
            return Err(Error::Argument(ArgumentError::Activation(parameter)));
        }
        for (pattern, target) in &self.layers {
            parse(pattern)?;
            target.check()?;
            if target.is_budget() {
                let rule =
                    format!("layers that match `{pattern}` cannot have a budget of their own");
                return Err(refused(rule, "give them a ratio, a threshold or a top-k"));
            }
        }
        self.keep.iter().try_for_each(|pattern| parse(pattern).map(drop))?;
        if let Some(share) = self.bounds.max_removed.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(refused(
                format!("max_removed {share} is no share"),
                "give one in [0, 1], for instance 0.8",
            ));
        }
        if let Some(Rounding { multiple: 0, .. }) = self.bounds.round_to {
            return Err(refused("no number of channels is a multiple of 0", "round to 8 or 16"));
        }
        Ok(())
    }
}

/// # Errors
/// [`SelectionError::Slimming`](crate::error::SelectionError::Slimming) when the pattern does not
/// parse.
pub(crate) fn parse(pattern: &str) -> Result<Pattern> {
    pattern.parse().map_err(|reason| {
        refused(
            format!("`{pattern}` is no pattern of field paths: {reason}"),
            "write one such as `layer1.*.conv1`",
        )
    })
}

fn refused(rule: impl Into<String>, fix: &str) -> Error {
    Error::Selection(SelectionError::Slimming { reason: format!("{}; {fix}", rule.into()) })
}

impl Target {
    fn check(&self) -> Result<()> {
        match *self {
            Target::Ratio(ratio) if !(0.0..1.0).contains(&ratio) => {
                Err(Error::Argument(ArgumentError::Ratio(ratio)))
            }
            Target::Threshold(threshold) if !threshold.is_finite() => {
                Err(refused(format!("threshold {threshold} is no number"), "give a finite one"))
            }
            Target::TopK(0) => {
                Err(refused("a network without channels computes nothing", "keep at least 1"))
            }
            Target::Params(share) | Target::Macs { share, .. } | Target::Latency { share, .. }
                if !(share > 0. && share <= 1.) =>
            {
                Err(refused(
                    format!("a budget of {share} is no share of the network"),
                    "give one in (0, 1], for instance 0.5 for half of it",
                ))
            }
            _ => Ok(()),
        }
    }
}
