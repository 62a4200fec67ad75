//! What all processes do, or none.

use std::fmt::Display;

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
    /// shapes: make new ones. A `DataParallel` is made anew after an error, too.
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
        self.broadcast_text(&made?, 0)
    }

    /// The result of this process, if no process has failed. Otherwise all get the error of the
    /// first process that failed. Collective.
    ///
    /// ```
    /// # use slim_distributed::{Distributed, Result};
    /// # fn read() -> Result<String> { Ok("image".to_owned()) }
    /// # fn main() -> Result<()> {
    /// let dist = Distributed::from_env()?;
    /// // Without this, the others would wait for a process whose file is missing.
    /// let image = dist.together(read())?;
    /// # assert_eq!(image, "image");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// In the first process that failed, its error; in all others, failed or not, [`Error::Rank`]
    /// with its words; [`Error::Collective`].
    pub fn together<T, E: Display + From<Error>>(&self, own: Result<T, E>) -> Result<T, E> {
        // The alternate form of an error that has causes names them, too.
        let words = own.as_ref().err().map(|error| format!("{error:#}"));
        match self.first_failure(words)? {
            Some((rank, message)) if rank != self.rank() => {
                Err(Error::Rank { rank, message }.into())
            }
            _ => own,
        }
    }

    /// The bytes of `root`, in all processes, such as those of a file that only it has. The others'
    /// are not looked at. Collective.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Collective`], [`Error::Torch`].
    pub fn broadcast_bytes(&self, bytes: &[u8], root: usize) -> Result<Vec<u8>> {
        if self.group().is_none() {
            return Ok(bytes.to_vec());
        }
        let length = [Tensor::f_from_slice(&[bytes.len() as i64])?.f_to_device(self.device())?];
        self.broadcast_tensors(&length, root)?;
        let length = length[0].f_int64_value(&[0])?;
        let all = if self.rank() == root {
            Tensor::f_from_slice(bytes)?.f_to_device(self.device())?
        } else {
            Tensor::f_zeros([length], (Kind::Uint8, self.device()))?
        };
        let all = [all];
        if length > 0 {
            self.broadcast_tensors(&all, root)?;
        }
        Ok(Vec::try_from(all[0].f_to_device(Device::Cpu)?)?)
    }

    /// Checks that all processes have variables of the same names, kinds and shapes: Gloo ends a
    /// process that gets more bytes than it waits for, and writes fewer without a word. Collective.
    ///
    /// # Errors
    /// [`Error::Unlike`], and [`Error::Rank`] in the others; [`Error::Collective`].
    pub(crate) fn ensure_alike(&self, variables: &[(String, Tensor)]) -> Result<()> {
        if self.group().is_none() {
            return Ok(());
        }
        let line = |(name, tensor): &(String, Tensor)| {
            // The name as Rust's literal, which has no line feed.
            Ok(format!("{name:?} of {:?} {:?}", tensor.f_kind()?, tensor.size()))
        };
        let own: Vec<String> = self.together(variables.iter().map(line).collect::<Result<_>>())?;
        let main = self.from_main(|| Ok(own.join("\n")))?;
        let main: Vec<&str> = main.lines().collect();
        let differs = (0..own.len().max(main.len()))
            .map(|at| (main.get(at).copied(), own.get(at).map(String::as_str)))
            .find(|(main, own)| main != own);
        let [main, own] = match differs {
            None => return self.together(Ok(())),
            Some((main, own)) => [main, own].map(|line| line.unwrap_or("no more").to_owned()),
        };
        self.together(Err(Error::Unlike { rank: self.rank(), main, own }))
    }

    /// Whether no process has failed: `Ok` in all, or an error in all. Collective.
    ///
    /// # Errors
    /// [`Error::Rank`] with the words of the first process that has failed, in the processes that
    /// have not; [`Error::Collective`]. In those that have failed, it is `Ok`: the caller has the
    /// error.
    fn agree(&self, own: Option<&Error>) -> Result<()> {
        match self.first_failure(own.map(ToString::to_string))? {
            Some((rank, message)) if own.is_none() => Err(Error::Rank { rank, message }),
            _ => Ok(()),
        }
    }

    /// The first process that has failed, and its words. Collective.
    fn first_failure(&self, own: Option<String>) -> Result<Option<(usize, String)>> {
        if self.group().is_none() {
            return Ok(own.map(|words| (0, words)));
        }
        let none = self.world_size() as f64;
        let rank = if own.is_some() { self.rank() as f64 } else { none };
        let first = self.all_reduce_numbers(&[rank], Reduce::Min)?;
        let Some(first) = first.first().copied().filter(|&first| first < none) else {
            return Ok(None);
        };
        let message = self.broadcast_text(&own.unwrap_or_default(), first as usize)?;
        Ok(Some((first as usize, message)))
    }

    /// The text of `root`, in all processes.
    fn broadcast_text(&self, text: &str, root: usize) -> Result<String> {
        let bytes = self.broadcast_bytes(text.as_bytes(), root)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
