//! Schedules: how a factor or a ratio grows while training.

use serde::{Deserialize, Serialize};

/// A value in `[0, 1]` for each step of training, by which a factor of a penalty or a ratio of
/// channels is multiplied.
///
/// It is 0 during the warm-up, grows during the ramp, and is 1 from then on. It depends on nothing
/// but the step, so training that resumes from a checkpoint gets the values of training that was
/// not interrupted. Any count of steps will do: of the optimizer, or of epochs.
///
/// ```
/// use slim_runtime::Schedule;
///
/// let schedule = Schedule::constant().warm_up(100).ramp(200);
/// assert_eq!([0, 99, 100, 200, 300, 400].map(|step| schedule.at(step)), [0., 0., 0., 0.5, 1., 1.]);
/// let cubic = Schedule::constant().cubic_ramp(2);
/// assert_eq!([0, 1, 2].map(|step| cubic.at(step)), [0., 0.875, 1.]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Steps of the warm-up.
    warm_up: u64,
    /// Steps of the ramp.
    ramp: u64,
    shape: Shape,
}

/// How the value grows with the share `t` of the ramp that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    /// `t`.
    Linear,
    /// `1 − (1 − t)³`.
    Cubic,
}

impl Schedule {
    /// 1 at every step.
    pub fn constant() -> Self {
        Self { warm_up: 0, ramp: 0, shape: Shape::Linear }
    }

    /// Begins with `steps` steps of 0. A ramp begins after them.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        Self { warm_up: steps, ..self }
    }

    /// Grows from 0 to 1 by the same amount in each of `steps` steps.
    #[must_use]
    pub fn ramp(self, steps: u64) -> Self {
        Self { ramp: steps, shape: Shape::Linear, ..self }
    }

    /// Grows from 0 to 1 in `steps` steps, fast at first: `1 − (1 − t)³`, where `t` is the share of
    /// the ramp that is done (Zhu & Gupta, "To prune, or not to prune", 2017, for sparsities).
    #[must_use]
    pub fn cubic_ramp(self, steps: u64) -> Self {
        Self { ramp: steps, shape: Shape::Cubic, ..self }
    }

    /// The value at a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let Some(done) = step.checked_sub(self.warm_up) else { return 0. };
        if done >= self.ramp {
            return 1.;
        }
        let share = done as f64 / self.ramp as f64;
        match self.shape {
            Shape::Linear => share,
            Shape::Cubic => 1. - (1. - share).powi(3),
        }
    }
}
