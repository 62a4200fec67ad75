//! What all processes do, or none.

use slim_runtime::{Plan, Prunable, Slimmed, Slimming};
use tch::{Device, Kind, Tensor};

use crate::distributed::Distributed;
use crate::{Error, Reduce, Result};

impl Distributed {
    /// Slims the network alike in all processes: rank 0 makes the plan, and all carry it out, or
    /// none does and all get the error. Collective.
    ///
    /// Weights must be the same in all processes, as they are after each step of data-parallel
    /// training; with batch norms that are not [synchronised](Self::synchronised), call
    /// [`average_statistics`](Self::average_statistics) before. A
    /// [`DataParallel`](crate::DataParallel) and an optimizer that were made before have the old
    /// shapes: make new ones.
    ///
    /// # Errors
    /// In the process that failed, its error: those of [`Prunable::plan`] in rank 0, and of
    /// [`Prunable::apply`]. In the others, [`Error::Rank`] with its words. The network is then
    /// unchanged in all processes. [`Error::Collective`] when a process dies in between.
    pub fn slim<M: Prunable + ?Sized>(&self, net: &mut M, slimming: &Slimming) -> Result<Slimmed> {
        let plan = self.from_main(|| Ok(net.plan(slimming)?.to_json()?))?;
        self.apply(net, &Plan::from_json(&plan)?)
    }

    /// Carries out the same plan in all processes, or in none: see [`slim`](Self::slim).
    /// Collective.
    ///
    /// # Errors
    /// Those of [`slim`](Self::slim), but for planning.
    pub fn apply<M: Prunable + ?Sized>(&self, net: &mut M, plan: &Plan) -> Result<Slimmed> {
        // Each process has made all its changes when it is asked, and undoes them if one could not.
        let mut others = None;
        let applied = plan.apply_if(net, || {
            let agreed = self.agree(None);
            let undo = agreed.as_ref().err().map(ToString::to_string);
            others = Some(agreed);
            undo.map_or(Ok(()), |words| Err(slim_runtime::Error::Custom(words)))
        });
        match (others, applied) {
            (Some(Err(error)), _) => Err(error),
            (None, Err(own)) => {
                let own = Error::from(own);
                self.agree(Some(&own))?;
                Err(own)
            }
            (_, applied) => Ok(applied?),
        }
    }

    /// The text that rank 0 makes, in all processes, such as a plan as JSON or the line of a log.
    /// Collective.
    ///
    /// # Errors
    /// The error of `make` in rank 0, and [`Error::Rank`] with its words in the others;
    /// [`Error::Collective`].
    pub fn from_main(&self, make: impl FnOnce() -> Result<String>) -> Result<String> {
        let made = if self.is_main() { make() } else { Ok(String::new()) };
        self.agree(made.as_ref().err())?;
        let text = made?;
        if self.group().is_none() {
            return Ok(text);
        }
        self.broadcast_text(&text, 0)
    }

    /// Whether no process has failed: `Ok` in all, or an error in all. Collective.
    ///
    /// # Errors
    /// [`Error::Rank`] with the words of the first process that has failed, in the processes that
    /// have not; [`Error::Collective`]. In those that have failed, it is `Ok`: the caller has the
    /// error.
    fn agree(&self, own: Option<&Error>) -> Result<()> {
        let none = self.world_size() as f64;
        let rank = if own.is_some() { self.rank() as f64 } else { none };
        let first = self.all_reduce_numbers(&[rank], Reduce::Min)?;
        let Some(first) = first.first().copied().filter(|&first| first < none) else {
            return Ok(());
        };
        let words = own.map(ToString::to_string).unwrap_or_default();
        let message = self.broadcast_text(&words, first as usize)?;
        match own {
            Some(_) => Ok(()),
            None => Err(Error::Rank { rank: first as usize, message }),
        }
    }

    /// The text of `root`, in all processes.
    fn broadcast_text(&self, text: &str, root: usize) -> Result<String> {
        if self.group().is_none() {
            return Ok(text.to_owned());
        }
        let length = [Tensor::f_from_slice(&[text.len() as i64])?.f_to_device(self.device())?];
        self.broadcast_tensors(&length, root)?;
        let length = length[0].f_int64_value(&[0])?;
        let bytes = if self.rank() == root {
            Tensor::f_from_slice(text.as_bytes())?.f_to_device(self.device())?
        } else {
            Tensor::f_zeros([length], (Kind::Uint8, self.device()))?
        };
        let bytes = [bytes];
        if length > 0 {
            self.broadcast_tensors(&bytes, root)?;
        }
        let bytes = Vec::<u8>::try_from(bytes[0].f_to_device(Device::Cpu)?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
