//! Some of the images of a split.

use super::{Batches, Split, order};

/// Some images of a split, drawn by a seed: the same whenever the split and the seed are the same.
pub struct Sample<'s> {
    split: &'s dyn Split,
    numbers: Vec<i64>,
}

impl<'s> Sample<'s> {
    /// `count` images of `split`, or all if it has fewer.
    pub fn new(split: &'s dyn Split, count: usize, seed: u64) -> Self {
        Self::apart_from(split, 0, count, seed)
    }

    /// `count` images of `split` that are not among the first `others` of the same seed, as far as
    /// the split has them; the rest are among these.
    pub fn apart_from(split: &'s dyn Split, others: usize, count: usize, seed: u64) -> Self {
        let mut numbers = order::shuffled(split.len(), seed);
        let others = others.min(numbers.len());
        numbers.rotate_left(others);
        numbers.truncate(count);
        Self { split, numbers }
    }
}

impl Split for Sample<'_> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn read(&self, batches: Vec<Vec<i64>>, seed: Option<u64>) -> Batches<'_> {
        let of_split = |batch: Vec<i64>| {
            batch
                .into_iter()
                .filter_map(|place| self.numbers.get(place as usize).copied())
                .collect()
        };
        self.split.read(batches.into_iter().map(of_split).collect(), seed)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tch::{Device, Tensor};

    use super::*;
    use crate::data::{Batch, Name, load};

    #[test]
    fn samples_are_apart_as_far_as_there_are_images() -> Result<()> {
        let data = load(Name::Digits, "nowhere".as_ref(), Device::Cpu)?;
        let all = data.train.len();
        let first = Sample::new(&*data.train, 500, 3).numbers;
        let others = Sample::apart_from(&*data.train, 500, 200, 3).numbers;
        assert!(others.len() == 200 && others.iter().all(|number| !first.contains(number)));
        let mut rest = Sample::apart_from(&*data.train, 500, all, 3).numbers;
        assert_eq!(rest[all - 500..], first);
        rest.sort_unstable();
        assert!(rest.into_iter().eq(0..all as i64));
        Ok(())
    }

    #[test]
    fn a_sample_is_the_same_for_the_same_seed_and_is_of_all_classes() -> Result<()> {
        let data = load(Name::Digits, "nowhere".as_ref(), Device::Cpu)?;
        let labels = |count, seed| -> Result<Vec<i64>> {
            let sample = Sample::new(&*data.train, count, seed);
            let batches = sample.batches(64).collect::<Result<Vec<Batch>>>()?;
            assert_eq!(
                batches.iter().map(|batch| batch.images.size()[0]).sum::<i64>(),
                sample.len() as i64
            );
            let labels: Vec<_> = batches.into_iter().map(|batch| batch.labels).collect();
            Ok(Tensor::cat(&labels, 0).try_into()?)
        };
        let few = labels(200, 3)?;
        assert_eq!((few.len(), &few), (200, &labels(200, 3)?));
        assert_ne!(few, labels(200, 4)?);
        assert!((0..10).all(|class| few.iter().filter(|label| **label == class).count() > 5));
        assert_eq!(labels(1 << 20, 3)?.len(), data.train.len());
        Ok(())
    }
}
