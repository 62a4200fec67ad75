//! Data sets: images and their classes, in batches that a network takes.

mod augment;
mod cifar;
pub mod digits;
mod folder;
mod memory;
mod missing;
mod name;
mod normal;
mod order;
mod svhn;

use std::path::Path;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use crate::network::{Arch, Spec};
pub use missing::Missing;
pub use name::Name;

/// Images and their classes.
#[derive(Debug)]
pub struct Batch {
    /// `[N, 3, H, W]`, float, normalised, on the device that the set was loaded for.
    pub images: Tensor,
    /// `[N]`, `Int64`.
    pub labels: Tensor,
}

/// Batches one after the other. An error, of a damaged image say, ends them.
pub type Batches<'p> = Box<dyn Iterator<Item = Result<Batch>> + 'p>;

/// The part of a data set that is for training, or that for testing.
pub trait Part {
    /// How many images it has.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All images in their order, as they are; the last batch may be smaller.
    fn batches(&self, size: usize) -> Batches<'_>;

    /// All images, shuffled and augmented, from batch `first` on; the last batch may be smaller.
    ///
    /// The same `seed` gives the same batches, however many are left out: an epoch that was cut off
    /// goes on as if it had not been.
    fn shuffled(&self, size: usize, seed: u64, first: usize) -> Batches<'_>;
}

/// A data set.
pub struct DataSet {
    /// How many classes it has.
    pub classes: i64,
    /// Shape of an image: channels, height, width.
    pub image: [i64; 3],
    /// For training.
    pub train: Box<dyn Part>,
    /// For testing.
    pub test: Box<dyn Part>,
}

impl DataSet {
    /// Checks that a network takes these images and tells these classes.
    ///
    /// # Errors
    /// In words: what differs, and what to choose.
    pub fn ensure_fits(&self, spec: &Spec) -> Result<()> {
        ensure!(
            spec.arch != Arch::Unet,
            "unet makes an image, and the labels here are classes: choose another --arch"
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

/// Reads a data set from the folder `dir`; its batches come on `device`.
///
/// The images of 32×32 pixels are held in memory, those of an image folder are read when they are
/// asked for.
///
/// # Errors
/// [`Missing`] where files are not there. Damaged files: the error names the file, and where in it.
pub fn load(name: Name, dir: &Path, device: Device) -> Result<DataSet> {
    match name {
        Name::Digits => Ok(digits::load(device)?.into()),
        Name::Cifar10 => cifar::TEN.load(dir, device),
        Name::Cifar100 => cifar::HUNDRED.load(dir, device),
        Name::Svhn => svhn::load(dir, device),
        Name::Imagefolder => folder::load(dir, device, folder::SIDE),
    }
}
