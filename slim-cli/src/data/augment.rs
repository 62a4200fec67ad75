//! Augmentation of small images: a crop out of the padded image, and a flip.

use fastrand::Rng;
use tch::{Device, Kind, Tensor};

/// Augmentation of the reference: pads an image with black pixels, crops a random region of the
/// original size, and flips it horizontally with probability 1/2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Augment {
    /// Pixels of padding on each side.
    pub(super) pad: i64,
}

/// Random choices for one image: where to crop the padded image, and whether to flip it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crop {
    top: i64,
    left: i64,
    flipped: bool,
}

impl Augment {
    /// Augments pixels, `[N, C, H, W]`. `draws` has one random generator per image.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub(super) fn apply(
        &self,
        pixels: &Tensor,
        draws: impl Iterator<Item = Rng>,
    ) -> tch::Result<Tensor> {
        self.cut(pixels, &draws.map(|rng| self.draw(rng)).collect::<Vec<_>>())
    }

    fn draw(&self, mut rng: Rng) -> Crop {
        let places = 0..=2 * self.pad;
        Crop { top: rng.i64(places.clone()), left: rng.i64(places), flipped: rng.bool() }
    }

    /// One gather for the whole batch: the index of a pixel in its padded image is a sum of offsets
    /// from its crop, its row and its column.
    fn cut(&self, pixels: &Tensor, crops: &[Crop]) -> tch::Result<Tensor> {
        let (count, channels, height, width) = pixels.size4()?;
        let stride = width + 2 * self.pad;
        let line = |of: fn(&Crop, i64) -> i64| {
            let values: Vec<i64> = crops.iter().map(|crop| of(crop, width)).collect();
            Tensor::f_from_slice(&values)?.f_view([count, 1, 1])
        };
        let (top, left) = (
            line(|crop, _| crop.top)?,
            line(|crop, width| crop.left + if crop.flipped { width - 1 } else { 0 })?,
        );
        let step = line(|crop, _| if crop.flipped { -1 } else { 1 })?;
        let counted = |length| Tensor::f_arange(length, (Kind::Int64, Device::Cpu));
        let rows = top.f_add(&counted(height)?.f_view([1, height, 1])?)?.f_mul_scalar(stride)?;
        let columns = left.f_add(&step.f_mul(&counted(width)?.f_view([1, 1, width])?)?)?;
        let places = rows
            .f_add(&columns)?
            .f_view([count, 1, height * width])?
            .f_expand([count, channels, height * width], false)?;
        let padded = pixels.f_constant_pad_nd([self.pad; 4])?.f_view([count, channels, -1])?;
        padded.f_gather(2, &places, false)?.f_view([count, channels, height, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;

    const AUGMENT: Augment = Augment { pad: 4 };

    fn noise(count: i64) -> Tensor {
        Tensor::randint(256, [count, 3, 32, 32], (Kind::Int64, Device::Cpu)).to_kind(Kind::Uint8)
    }

    #[test]
    fn a_crop_is_a_piece_of_the_padded_image() -> Result<()> {
        let images = noise(4);
        let crops = [(0, 0, false), (8, 3, true), (4, 4, false), (4, 4, true)]
            .map(|(top, left, flipped)| Crop { top, left, flipped });
        let cut = AUGMENT.cut(&images, &crops)?;
        for (number, crop) in crops.iter().enumerate() {
            let padded = images.get(number as i64).constant_pad_nd([4, 4, 4, 4]);
            let piece = padded.narrow(1, crop.top, 32).narrow(2, crop.left, 32);
            let expected = if crop.flipped { piece.flip([2]) } else { piece };
            assert!(cut.get(number as i64).equal(&expected), "{crop:?}");
        }
        assert!(cut.get(2).equal(&images.get(2)), "the middle is the image itself");
        assert_eq!(
            cut.get(0).narrow(1, 0, 4).count_nonzero(None::<i64>).int64_value(&[]),
            0,
            "what is put around is black"
        );
        Ok(())
    }

    #[test]
    fn every_place_is_drawn_and_every_other_image_flipped() {
        let drawn: Vec<_> =
            (0..4000).map(|image| AUGMENT.draw(crate::data::order::draws(1, image))).collect();
        for place in 0..=8 {
            let share = |of: fn(&Crop) -> i64| {
                drawn.iter().filter(|crop| of(crop) == place).count() as f64 / 4000.
            };
            assert!(
                (share(|crop| crop.top) - 1. / 9.).abs() < 0.02
                    && (share(|crop| crop.left) - 1. / 9.).abs() < 0.02
            );
        }
        assert!(
            drawn.iter().all(|crop| (0..=8).contains(&crop.top) && (0..=8).contains(&crop.left))
        );
        let flipped = drawn.iter().filter(|crop| crop.flipped).count();
        assert!((1850..2150).contains(&flipped), "{flipped} of 4,000");
    }
}
