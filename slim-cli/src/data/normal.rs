//! Normalisation: from bytes to the floats that networks take.

use tch::{Kind, Tensor};

/// Mean and deviation of red, green and blue in a data set, as shares of the largest byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normal {
    pub(super) mean: [f64; 3],
    pub(super) deviation: [f64; 3],
}

impl Normal {
    /// Normalises pixels, `[N, 3, H, W]` and bytes, by torchvision's steps, so that the floats are
    /// bit-identical.
    ///
    /// # Errors
    /// Errors of libtorch: no memory on the device.
    pub(super) fn apply(&self, pixels: &Tensor) -> tch::Result<Tensor> {
        let channels = |values: &[f64; 3]| {
            Tensor::f_from_slice(values)?
                .f_view([1, 3, 1, 1])?
                .f_to_kind(Kind::Float)?
                .f_to_device(pixels.device())
        };
        pixels
            .f_to_kind(Kind::Float)?
            .f_div_scalar_(255.)?
            .f_sub_(&channels(&self.mean)?)?
            .f_div_(&channels(&self.deviation)?)
    }

    /// Inverse of `apply`: the bytes of the pixels.
    #[cfg(test)]
    pub(super) fn undo(&self, images: &Tensor) -> Tensor {
        let channels = |values: &[f64; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]);
        let pixels = (images * channels(&self.deviation) + channels(&self.mean)) * 255.;
        pixels.round().to_kind(Kind::Uint8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_normalised_as_torchvision_does_it() -> anyhow::Result<()> {
        let normal = Normal { mean: [0.4914, 0.4822, 0.4465], deviation: [0.2023, 0.1994, 0.2010] };
        let bytes: Vec<u8> = (0..=255).collect();
        let pixels = Tensor::from_slice(&bytes).view([1, 1, 16, 16]).expand([1, 3, 16, 16], false);
        let normalised = Vec::<f32>::try_from(normal.apply(&pixels)?.view([-1]))?;
        for (channel, values) in normalised.chunks(256).enumerate() {
            for (byte, value) in bytes.iter().zip(values) {
                let expected = (f32::from(*byte) / 255. - normal.mean[channel] as f32)
                    / normal.deviation[channel] as f32;
                assert_eq!(*value, expected, "{byte} of channel {channel}");
            }
        }
        assert!(normal.undo(&normal.apply(&pixels)?).equal(&pixels));
        Ok(())
    }
}
