//! Random choices: the order of the images, and the augmentation of each image.
//!
//! Draws depend only on a seed and an image's number, not on earlier draws, so that an epoch can
//! begin in the middle.

use fastrand::Rng;

/// The numbers of all images, shuffled.
pub(super) fn shuffled(count: usize, seed: u64) -> Vec<i64> {
    let mut numbers: Vec<i64> = (0..count as i64).collect();
    Rng::with_seed(seed).shuffle(&mut numbers);
    numbers
}

/// Random generator of one image.
pub(super) fn draws(seed: u64, image: i64) -> Rng {
    // Spread the seed over all bits first. With a plain sum, image 1 of epoch 2 would get the draws
    // of image 2 of epoch 1.
    Rng::with_seed(Rng::with_seed(seed).u64(..).wrapping_add(image as u64))
}

/// Splits an order into batches, from batch `first` on.
pub(super) fn batches(
    order: Vec<i64>,
    size: usize,
    first: usize,
) -> impl Iterator<Item = Vec<i64>> {
    // A batch size of zero would divide by zero.
    let size = size.max(1);
    (first..order.len().div_ceil(size))
        .map(move |batch| order[batch * size..order.len().min((batch + 1) * size)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(count: i64) -> Vec<i64> {
        (0..count).collect()
    }

    #[test]
    fn an_order_is_a_permutation_of_its_seed() {
        let order = shuffled(1000, 7);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, plain(1000));
        assert_eq!(order, shuffled(1000, 7));
        let same = order.iter().zip(shuffled(1000, 8)).filter(|(a, b)| *a == b).count();
        assert!(same < 10, "two epochs have {same} of 1,000 images in one place");
    }

    #[test]
    fn batches_are_the_same_whatever_is_left_out() {
        let all: Vec<_> = batches(plain(10), 4, 0).collect();
        assert_eq!(all, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        for first in 0..5 {
            assert_eq!(batches(plain(10), 4, first).collect::<Vec<_>>(), all[first.min(3)..]);
        }
        assert_eq!(batches(plain(0), 4, 0).count(), 0);
        assert_eq!(batches(plain(3), 0, 0).count(), 3);
    }

    #[test]
    fn neither_images_nor_epochs_share_their_draws() {
        let mut drawn: Vec<_> = (0..50)
            .flat_map(|seed| (0..200).map(move |image| draws(seed, image).u64(..)))
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 50 * 200);
        // Draws of neighbouring images are independent: each of nine values is about equally
        // frequent.
        let mut of_nine = [0_usize; 9];
        (0..9000).for_each(|image| of_nine[draws(3, image).usize(..9)] += 1);
        assert!(of_nine.iter().all(|count| (880..1120).contains(count)), "{of_nine:?}");
    }
}
