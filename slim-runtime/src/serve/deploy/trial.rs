//! Trials: the output and the latency of a form of the network.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tch::{Device, TchError, Tensor};

use super::form::ModelSnapshot;
use super::layout::Layout;
use crate::graph::memory;
use crate::nn::recorder;
use crate::nn::recorder::Record;
use crate::numeric::compare::{Divergence, OutputError};
use crate::numeric::{Quartiles, compare};
use crate::panics::caught;
use crate::{Error, Prunable, Result};

/// Least and most number of rounds in which the forms are measured in turn. In between, no new
/// round begins after `LONG_ENOUGH` in total.
const ROUNDS: std::ops::Range<usize> = if cfg!(test) { 1..1 } else { 5..25 };
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

/// A forward pass whose output must not change.
pub(super) struct UnchangedForward<'t, X: ?Sized, F> {
    pub(super) sample: &'t X,
    pub(super) forward: &'t F,
    /// The output of the network before deploying, in double precision.
    pub(super) expected: Tensor,
    pub(super) tolerance: f64,
}

/// A form of the network that may be chosen.
pub(super) struct LayoutCandidate {
    /// `None` for the network before deploying.
    pub(super) layout: Option<Layout>,
    /// The form, or the reason why it is out.
    pub(super) form: Result<ModelSnapshot, String>,
    pub(super) closeness: Option<OutputError>,
    pub(super) times: Vec<Duration>,
}

impl LayoutCandidate {
    pub(super) fn before(original: ModelSnapshot) -> Self {
        LayoutCandidate { layout: None, form: Ok(original), closeness: None, times: Vec::new() }
    }

    /// The times of a run in seconds; `None` if the form is out.
    pub(super) fn latency(&self) -> Option<Quartiles> {
        let times: Vec<_> = self.times.iter().map(Duration::as_secs_f64).collect();
        (self.form.is_ok() && !times.is_empty()).then(|| Quartiles::of(&times))
    }

    /// How many times as fast as another form it was in each round.
    pub(super) fn times_as_fast_as(&self, other: &LayoutCandidate) -> Quartiles {
        let rounds = self.times.iter().zip(&other.times);
        let ratios = rounds.map(|(own, other)| other.as_secs_f64() / own.as_secs_f64());
        Quartiles::of(&ratios.collect::<Vec<_>>())
    }
}

impl<X: ?Sized, F> UnchangedForward<'_, X, F> {
    fn run<M: ?Sized>(&self, model: &M) -> Result<Tensor, String>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let output = caught(|| tch::no_grad(|| (self.forward)(model, self.sample)));
        output.map_err(|message| Divergence::Panic { message }.to_string())
    }

    /// How close the output of the model in its current form is to the expected one, or how it
    /// differs.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn compare<M: ?Sized>(&self, model: &M) -> Result<Result<OutputError, String>>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        match self.run(model) {
            Ok(output) => Ok(compare::compare(&self.expected, &output, self.tolerance)?
                .map_err(|divergence| divergence.to_string())),
            Err(message) => Ok(Err(message)),
        }
    }

    /// Like [`compare`](Self::compare), for a model that has this form. Also returns the shape of
    /// the images that each layer is given, by field path.
    ///
    /// # Errors
    /// [`Error::Torch`].
    #[allow(clippy::type_complexity)]
    pub(super) fn run_recorded<M: ?Sized>(
        &self,
        model: &M,
        form: &ModelSnapshot,
    ) -> Result<Result<(OutputError, HashMap<String, Vec<i64>>), String>>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let mut compared = None;
        let records = recorder::record(|| compared = Some(self.compare(model)));
        let Some(compared) = compared.transpose()? else {
            return Ok(Err("it did not run".to_owned()));
        };
        Ok(compared.map(|closeness| (closeness, given(form, records))))
    }

    /// The candidate for a layout. It is out if the form is missing or changes the output.
    ///
    /// # Errors
    /// [`Error::Torch`], those of a hand-written `layers_mut`.
    pub(super) fn candidate<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        layout: Layout,
        form: Result<ModelSnapshot, String>,
    ) -> Result<LayoutCandidate>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let (form, closeness) = match form {
            Ok(form) => {
                form.put(model)?;
                match self.compare(model)? {
                    Ok(closeness) => (Ok(form), Some(closeness)),
                    Err(difference) => (Err(difference), None),
                }
            }
            Err(reason) => (Err(reason), None),
        };
        Ok(LayoutCandidate { layout: Some(layout), form, closeness, times: Vec::new() })
    }

    /// Measures all candidates that are not out, in turn, so that other load on the machine affects
    /// them alike.
    ///
    /// # Errors
    /// [`Error::Torch`], those of a hand-written `layers_mut`.
    pub(super) fn measure<M: Prunable + ?Sized>(
        &self,
        model: &mut M,
        candidates: &mut [LayoutCandidate],
    ) -> Result<()>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let start = Instant::now();
        for round in 0..ROUNDS.end.max(1) {
            if round >= ROUNDS.start && start.elapsed() > LONG_ENOUGH {
                break;
            }
            for candidate in candidates.iter_mut() {
                let Ok(form) = &candidate.form else { continue };
                form.put(model)?;
                match self.time(model)? {
                    Ok(time) => candidate.times.push(time),
                    Err(message) => candidate.form = Err(message),
                }
            }
        }
        Ok(())
    }

    /// Times the second of two passes, because the first finds caches and memory of another form.
    fn time<M: ?Sized>(&self, model: &M) -> Result<Result<Duration, String>>
    where
        F: Fn(&M, &X) -> Tensor,
    {
        let wait = |output: &Tensor| finished(output).map_err(Error::torch("the output"));
        let mut time = Duration::ZERO;
        for _ in 0..2 {
            let start = Instant::now();
            match self.run(model) {
                Ok(output) => wait(&output)?,
                Err(message) => return Ok(Err(message)),
            }
            time = start.elapsed();
        }
        Ok(Ok(time))
    }
}

/// Waits for a device that still computes after its tensors have been returned.
fn finished(output: &Tensor) -> Result<(), TchError> {
    if output.device() != Device::Cpu {
        output.f_flatten(0, -1)?.f_narrow(0, 0, 1)?.f_double_value(&[0])?;
    }
    Ok(())
}

/// The shape of the images that layers were given, by field path.
fn given(form: &ModelSnapshot, records: Vec<Record>) -> HashMap<String, Vec<i64>> {
    let mut given = HashMap::new();
    for (path, weights) in form.all_weights() {
        let record = records.iter().find(|record| {
            memory(&record.weight).is_some_and(|at| memory(&weights.weight) == Some(at))
        });
        given.extend(record.map(|record| (path.to_owned(), record.given.clone())));
    }
    given
}
