//! Data sets: images and their classes, in batches.

mod augment;
mod cifar;
pub mod digits;
mod folder;
mod memory;
mod missing;
mod name;
mod normal;
mod order;
mod sample;

use std::path::Path;

use anyhow::{Result, ensure};
use slim_distributed::{Part, Share};
use tch::{Device, Tensor};

use crate::network::Spec;
pub use missing::Missing;
pub use name::Name;
pub use sample::Sample;

/// Images and their classes.
#[derive(Debug)]
pub struct Batch {
    /// `[N, 3, H, W]`, float, normalised, on the device that the set was loaded for.
    pub images: Tensor,
    /// `[N]`, `Int64`.
    pub labels: Tensor,
}

/// Iterator over batches. A damaged image gives an error and ends the batches.
pub type Batches<'p> = Box<dyn Iterator<Item = Result<Batch>> + 'p>;

/// The training images or the test images of a data set.
pub trait Split {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batches of the images of these numbers, in this order. With a seed, each image is augmented,
    /// by draws that depend on the seed and its number alone.
    fn read(&self, batches: Vec<Vec<i64>>, seed: Option<u64>) -> Batches<'_>;

    /// All images in their order, without augmentation; the last batch may be smaller.
    fn batches(&self, size: usize) -> Batches<'_> {
        self.own_batches(size, Share::WHOLE)
    }

    /// All images, shuffled and augmented, from batch `first` on; the last batch may be smaller.
    ///
    /// The same `seed` gives the same batches for every `first`, so that an interrupted epoch
    /// resumes with the batches that it would have had.
    fn shuffled(&self, size: usize, seed: u64, first: usize) -> Batches<'_> {
        self.own_shuffled(size, seed, first, Share::WHOLE)
    }

    /// Like [`batches`](Self::batches), of the images in a process's part of the whole set. There
    /// may be none.
    fn own_batches(&self, size: usize, share: Share) -> Batches<'_> {
        let Part { samples, weight, .. } = share.of(self.len());
        let own = if weight > 0. { samples } else { 0..0 };
        let order = own.map(|number| number as i64).collect();
        self.read(order::batches(order, size, 0).collect(), None)
    }

    /// Like [`shuffled`](Self::shuffled), with a process's part of each batch.
    fn own_shuffled(&self, size: usize, seed: u64, first: usize, share: Share) -> Batches<'_> {
        let batches = order::batches(order::shuffled(self.len(), seed), size, first);
        let own = batches.map(|batch| batch[share.of(batch.len()).samples].to_vec());
        self.read(own.collect(), Some(seed))
    }
}

/// A data set.
pub struct DataSet {
    /// Number of classes.
    pub classes: i64,
    /// Shape of an image: channels, height, width.
    pub image: [i64; 3],
    /// Training images.
    pub train: Box<dyn Split>,
    /// Test images.
    pub test: Box<dyn Split>,
}

impl DataSet {
    /// Checks that a network takes these images and has the same number of classes.
    ///
    /// # Errors
    /// The network does not classify, or the image shapes or the numbers of classes differ.
    pub fn ensure_fits(&self, spec: &Spec) -> Result<()> {
        ensure!(
            spec.arch.classifies(),
            "{} gives no class to an image, and the labels here are classes: choose another --arch",
            spec.arch
        );
        let size = |[channels, height, width]: [i64; 3]| format!("{channels}×{height}×{width}");
        ensure!(
            spec.image() == self.image,
            "{} takes images of {}, and those of the data set are {}: choose another --arch or --dataset",
            spec.arch,
            size(spec.image()),
            size(self.image)
        );
        ensure!(
            spec.classes == self.classes,
            "the network tells {} classes, and the data set has {}",
            spec.classes,
            self.classes
        );
        Ok(())
    }
}

/// Loads a data set from the folder `dir`, with batches on `device`.
///
/// Images of 32×32 pixels are held in memory. Those of an image folder are read on demand.
///
/// # Errors
/// [`Missing`] if files are missing. For a damaged file, the error names the file and the place in
/// it.
pub fn load(name: Name, dir: &Path, device: Device) -> Result<DataSet> {
    match name {
        Name::Digits => Ok(digits::load(device)?.into()),
        Name::Cifar10 => cifar::TEN.load(dir, device),
        Name::Cifar100 => cifar::HUNDRED.load(dir, device),
        Name::Imagefolder => folder::load(dir, device, folder::SIDE),
    }
}
