//! Convolutions with the widths of a slimmed network.

use tch::{Device, Kind, Tensor};

use crate::serve::benchmark::uniform;
use crate::{Error, Result};

/// Kernel, input channels, output channels, side of the image: what slimming by half leaves of the
/// four stages of a residual network for 224×224. The widths are a mix: even, odd, just below and
/// just above a multiple.
const LAYERS: [(usize, usize, usize, usize); 8] = [
    (3, 29, 35, 56),
    (1, 35, 123, 56),
    (3, 61, 70, 28),
    (1, 70, 263, 28),
    (3, 119, 131, 14),
    (1, 131, 515, 14),
    (3, 249, 262, 7),
    (1, 262, 1029, 7),
];

/// Latency is measured with a batch of 1, which does not fill a GPU.
fn batch(device: Device) -> usize {
    if device == Device::Cpu { 1 } else { 32 }
}

/// Layers and their inputs.
pub(super) struct Convolutions(Vec<Layer>);

struct Layer {
    input: Tensor,
    weight: Tensor,
    padding: i64,
    macs: f64,
}

impl Convolutions {
    /// The convolutions of `LAYERS` with all widths rounded up to `multiple`.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn rounded_to(multiple: usize, device: Device, kind: Kind) -> Result<Self> {
        let layer = |(kernel, inputs, outputs, side): (usize, usize, usize, usize)| {
            let [inputs, outputs] = [inputs, outputs].map(|width| width.next_multiple_of(multiple));
            let shape = |shape: [usize; 4]| shape.map(|side| side as i64);
            Ok(Layer {
                input: uniform(&shape([batch(device), inputs, side, side]), device, kind)?,
                weight: uniform(&shape([outputs, inputs, kernel, kernel]), device, kind)?,
                padding: kernel as i64 / 2,
                macs: (kernel * kernel * inputs * outputs * side * side) as f64,
            })
        };
        LAYERS.into_iter().map(layer).collect::<Result<_>>().map(Self)
    }

    /// Multiply-accumulates for one image.
    pub(super) fn macs(&self) -> f64 {
        self.0.iter().map(|layer| layer.macs).sum()
    }

    /// Applies each layer to its input.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn run(&self) -> Result<()> {
        for Layer { input, weight, padding, .. } in &self.0 {
            let output = input.f_conv2d(weight, None::<&Tensor>, [1, 1], [*padding; 2], [1, 1], 1);
            let _ = output.map_err(Error::torch("a convolution to measure"))?;
        }
        Ok(())
    }
}
