//! A criterion as a plan stores it: by name.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::Tensor;

use super::{
    BatchNormScale, Candidate, Criterion, Fisher, Fpgm, GateTaylor, GroupTaylor, L1, L2, Lamp,
    MeanActivation, Random, ScaledNorm, Taylor,
};
use crate::error::SelectionError;
use crate::{Error, Result};

/// The [`Criterion`] of a [`Slimming`](crate::Slimming). Files store its name. Criteria of the same
/// name are equal.
#[derive(Debug, Clone)]
pub struct Ranking(Arc<dyn Criterion>);

impl Ranking {
    pub(crate) fn new(criterion: impl Criterion + 'static) -> Self {
        Self(Arc::new(criterion))
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Ranking {
    fn default() -> Self {
        Self::new(BatchNormScale)
    }
}

impl Deref for Ranking {
    type Target = dyn Criterion;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Ranking {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Serialize for Ranking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Ranking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known: [Arc<dyn Criterion>; 11] = [
            Arc::new(BatchNormScale),
            Arc::new(L1),
            Arc::new(L2),
            Arc::new(Fpgm),
            Arc::new(Taylor),
            Arc::new(GateTaylor),
            Arc::new(GroupTaylor),
            Arc::new(Fisher),
            Arc::new(Lamp),
            Arc::new(ScaledNorm),
            Arc::new(MeanActivation::default()),
        ];
        let seed = name
            .strip_prefix("random(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|seed| seed.parse().ok());
        let known = known.into_iter().find(|criterion| criterion.name() == name);
        Ok(match (known, seed) {
            (Some(criterion), _) => Self(criterion),
            (None, Some(seed)) => Self::new(Random { seed }),
            (None, None) => Self::new(Named(name)),
        })
    }
}

/// A criterion that a file names and that this crate does not have.
#[derive(Debug)]
struct Named(String);

impl Criterion for Named {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn scores(&self, _: &Candidate<'_>) -> Result<Option<Tensor>> {
        Err(Error::Selection(SelectionError::UnknownCriterion { name: self.0.clone() }))
    }
}
