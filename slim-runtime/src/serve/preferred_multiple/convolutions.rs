//! Convolutions with the widths of a slimmed network.

use tch::{Device, Kind};

use crate::numeric::{LayerOperation, LayerShape};
use crate::serve::workload::{Layer, Workload};
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
fn batch(device: Device) -> i64 {
    if device == Device::Cpu { 1 } else { 32 }
}

/// Layers with their inputs, and their multiply-accumulates for one image.
pub(super) struct Convolutions(Vec<(Layer, f64)>);

impl Convolutions {
    /// The convolutions of `LAYERS` with all widths rounded up to `multiple`.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn rounded_to(multiple: usize, device: Device, kind: Kind) -> Result<Self> {
        let layer = |(kernel, inputs, outputs, side): (usize, usize, usize, usize)| {
            let [inputs, outputs] = [inputs, outputs].map(|width| width.next_multiple_of(multiple));
            let (kernel, side) = (kernel as i64, side as i64);
            let shape = LayerShape {
                kernel: vec![kernel; 2],
                stride: vec![1; 2],
                padding: vec![kernel / 2; 2],
                dilation: vec![1; 2],
                ..LayerShape::plain(LayerOperation::Conv, Some(batch(device)), vec![side; 2], false)
            };
            let widths = [outputs, inputs].map(|width| width as u64);
            let layer = Workload::new(shape, widths, (kind, device))?.layer(widths)?;
            Ok((layer, (kernel * kernel * side * side) as f64 * (inputs * outputs) as f64))
        };
        LAYERS.into_iter().map(layer).collect::<Result<_>>().map(Self)
    }

    /// Multiply-accumulates for one image.
    pub(super) fn macs(&self) -> f64 {
        self.0.iter().map(|(_, macs)| macs).sum()
    }

    /// Applies each layer to its input.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn run(&self) -> Result<()> {
        for (layer, _) in &self.0 {
            drop(layer.run().map_err(Error::torch("a convolution to measure"))?);
        }
        Ok(())
    }
}
