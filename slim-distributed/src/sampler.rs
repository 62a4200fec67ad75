//! Which samples of each batch are this process's.

use std::ops::Range;

use tch::Tensor;

use crate::distributed::Distributed;
use crate::{Error, Result};

/// The place of a process among those that share each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    rank: usize,
    world_size: usize,
}

/// The part of some samples that is this process's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// The positions of the samples. There is one at least, unless there are no samples at all.
    pub samples: Range<usize>,
    /// What the mean loss over this part is multiplied by, so that the average over the processes
    /// is the mean over all samples: `n · processes / samples`.
    pub weight: f64,
}

impl Share {
    /// The share of a process that is alone: all samples.
    pub const WHOLE: Self = Self { rank: 0, world_size: 1 };

    /// The part of `samples` samples that is this process's. Parts follow each other by rank, and
    /// their sizes differ by one sample at most.
    ///
    /// Of fewer samples than processes, some parts are a sample of another process, with the weight
    /// 0: they take part in the collective operations, and not in the gradient.
    pub fn of(&self, samples: usize) -> Part {
        // In 128 bits, where no product is too large.
        let start =
            |rank: usize| (samples as u128 * rank as u128 / self.world_size as u128) as usize;
        let own = start(self.rank)..start(self.rank + 1);
        let weight = own.len() as f64 * self.world_size as f64 / samples.max(1) as f64;
        let samples = if own.is_empty() { 0..samples.min(1) } else { own };
        Part { samples, weight }
    }
}

impl Distributed {
    /// The part of each batch that is this process's, for loaders that cut batches themselves.
    pub fn share(&self) -> Share {
        Share { rank: self.rank(), world_size: self.world_size() }
    }
}

/// Cuts the samples of a data set into global batches, in a random order that is the same in all
/// processes, and each batch into parts, one for each process.
///
/// Every sample occurs once in an epoch. The last batch may be smaller. [`Share::of`] cuts batches
/// into parts: they differ by one sample at most, and some parts of a batch with fewer samples than
/// processes have the weight 0.
///
/// The batches do not depend on the number of processes, so training does not either, but for
/// rounding, and for batch norms that are not [synchronised](Distributed::synchronised).
#[derive(Debug, Clone)]
pub struct Sampler {
    samples: usize,
    batch: usize,
    share: Share,
    seed: u64,
    shuffles: bool,
}

/// The part of a batch that is this process's.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shard {
    /// The indices of the samples, for `index_select`, on the CPU: `[n]` of `Int64`.
    pub indices: Tensor,
    /// What the mean loss over this part is multiplied by, so that the average over the processes
    /// is the mean over the batch: `n · processes / samples of the batch`.
    pub weight: f64,
    /// The number of samples in the whole batch.
    pub batch: usize,
}

impl Sampler {
    /// Batches of `batch` samples over all processes, from a data set of `samples`.
    ///
    /// # Errors
    /// [`Error::Argument`] when one of the numbers is 0.
    pub fn new(dist: &Distributed, samples: usize, batch: usize) -> Result<Self> {
        for (name, number) in [("samples", samples), ("batch", batch)] {
            if number == 0 {
                let rule = "it is at least 1";
                return Err(Error::Argument { name, found: "0".to_owned(), rule });
            }
        }
        Ok(Self { samples, batch, share: dist.share(), seed: 0, shuffles: true })
    }

    /// The seed of the orders. 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether the order is random, as for training, or that of the data set. It is by default.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffles = shuffle;
        self
    }

    /// The number of batches in an epoch.
    pub fn len(&self) -> usize {
        self.samples.div_ceil(self.batch)
    }

    /// Whether there are no batches: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This process's parts of the batches of an epoch. The order follows from the seed and the
    /// number of the epoch alone, so training goes on from a checkpoint by
    /// `epoch(n).skip(batches)`.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        let mut order: Vec<i64> = (0..self.samples as i64).collect();
        if self.shuffles {
            // Neighbouring epochs and seeds must not share their states.
            let mixed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ epoch;
            fastrand::Rng::with_seed(fastrand::Rng::with_seed(mixed).u64(..)).shuffle(&mut order);
        }
        Epoch { sampler: self.clone(), order, next: 0 }
    }
}

/// The parts of an epoch: see [`Sampler::epoch`].
#[derive(Debug, Clone)]
pub struct Epoch {
    sampler: Sampler,
    order: Vec<i64>,
    next: usize,
}

impl Iterator for Epoch {
    type Item = Shard;

    fn next(&mut self) -> Option<Shard> {
        let batch = self.order.chunks(self.sampler.batch).nth(self.next)?;
        self.next += 1;
        let Part { samples, weight } = self.sampler.share.of(batch.len());
        Some(Shard { indices: Tensor::from_slice(&batch[samples]), weight, batch: batch.len() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.sampler.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

#[cfg(test)]
mod tests {
    use super::{Sampler, Shard, Share};

    fn sampler(rank: usize, world_size: usize) -> Sampler {
        let share = Share { rank, world_size };
        Sampler { samples: 23, batch: 7, share, seed: 5, shuffles: true }
    }

    fn indices(shard: &Shard) -> Vec<i64> {
        Vec::try_from(&shard.indices).unwrap()
    }

    #[test]
    fn the_parts_of_all_processes_are_the_batches_of_one() {
        let whole: Vec<Vec<i64>> = sampler(0, 1).epoch(3).map(|shard| indices(&shard)).collect();
        assert_eq!(whole.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7, 2]);
        let mut all: Vec<i64> = whole.concat();
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        for world_size in [2, 3, 5] {
            let parts: Vec<Vec<Shard>> =
                (0..world_size).map(|rank| sampler(rank, world_size).epoch(3).collect()).collect();
            for (at, batch) in whole.iter().enumerate() {
                let shards = || parts.iter().map(|shards| &shards[at]);
                let joined: Vec<i64> =
                    shards().filter(|shard| shard.weight > 0.).flat_map(indices).collect();
                assert_eq!(&joined, batch);
                // Every process has at least one sample, and the weights average to one.
                assert!(shards().all(|shard| shard.indices.size1().unwrap() >= 1));
                let weights: f64 = shards().map(|shard| shard.weight).sum();
                assert!((weights / world_size as f64 - 1.).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn each_epoch_and_each_seed_has_an_order_of_its_own() {
        let order = |seed, epoch| -> Vec<i64> {
            sampler(0, 1).seed(seed).epoch(epoch).flat_map(|shard| indices(&shard)).collect()
        };
        assert_eq!(order(5, 3), order(5, 3));
        assert_ne!(order(5, 3), order(5, 4));
        assert_ne!(order(5, 3), order(6, 3));
        let unshuffled = sampler(0, 1).shuffle(false);
        let order: Vec<i64> = unshuffled.epoch(1).flat_map(|shard| indices(&shard)).collect();
        assert_eq!(order, (0..23).collect::<Vec<_>>());
    }
}
