//! Images held in memory as bytes, which take a quarter of the memory of floats.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::augment::Augment;
use super::normal::Normal;
use super::{Batch, Batches, Split, order};
use crate::network::Arch;

/// Side of the small images, in pixels.
pub(super) const SIDE: i64 = Arch::CIFAR_SIDE;

/// Images and their classes in memory, and their preprocessing.
#[derive(Debug)]
pub(super) struct Memory {
    /// `[N, 3, 32, 32]`, bytes, on the CPU.
    pixels: Tensor,
    /// `[N]`, `Int64`, on the CPU.
    labels: Tensor,
    look: Look,
    device: Device,
}

/// Preprocessing of a data set's images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) normal: Normal,
    pub(super) augment: Augment,
}

impl Memory {
    /// Keeps `pixels` and `labels`, and makes batches on `device`.
    ///
    /// # Errors
    /// The numbers of images and labels differ.
    pub(super) fn new(pixels: Tensor, labels: Tensor, look: Look, device: Device) -> Result<Self> {
        let (count, ..) = pixels.size4()?;
        ensure!(labels.size() == [count], "{count} images have {} labels", labels.numel());
        Ok(Self { pixels, labels: labels.f_to_kind(Kind::Int64)?, look, device })
    }

    /// Batch of the images `numbers`; with a seed, they are augmented.
    fn batch(&self, numbers: &[i64], seed: Option<u64>) -> Result<Batch> {
        let index = Tensor::f_from_slice(numbers)?;
        let mut pixels = self.pixels.f_index_select(0, &index)?;
        if let Some(seed) = seed {
            pixels = self
                .look
                .augment
                .apply(&pixels, numbers.iter().map(|image| order::draws(seed, *image)))?;
        }
        Ok(Batch {
            images: self.look.normal.apply(&pixels.f_to_device(self.device)?)?,
            labels: self.labels.f_index_select(0, &index)?.f_to_device(self.device)?,
        })
    }
}

impl Split for Memory {
    fn len(&self) -> usize {
        self.labels.numel()
    }

    fn read(&self, batches: Vec<Vec<i64>>, seed: Option<u64>) -> Batches<'_> {
        Box::new(batches.into_iter().map(move |numbers| self.batch(&numbers, seed)))
    }
}
