//! Layers to be timed, with numbers in them.

use tch::{Device, Kind, TchError, Tensor};

use crate::numeric::{LayerOperation, LayerShape};
use crate::serve::benchmark::uniform;
use crate::{Error, Result};

/// The numbers of a layer at its largest widths. Narrower layers use the first of them, so that
/// many widths take no more memory than the largest.
pub(super) struct Workload {
    shape: LayerShape,
    input: Tensor,
    weight: Tensor,
    vector: Tensor,
}

/// A layer at some widths.
pub(super) struct Layer {
    shape: LayerShape,
    input: Tensor,
    weight: Tensor,
    vectors: Vec<Tensor>,
}

impl Workload {
    /// The numbers for a weight with at most these numbers of rows and columns.
    ///
    /// # Errors
    /// [`Error::Torch`]; [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) where there
    /// is no memory for them.
    pub(super) fn new(
        shape: LayerShape,
        widths: [u64; 2],
        (kind, device): (Kind, Device),
    ) -> Result<Self> {
        let widths = widths.map(|width| width as i64);
        let numbers = |shape: &[i64]| -> Result<Tensor> {
            let flat = uniform(shape, device, kind)?.f_flatten(0, -1);
            flat.map_err(Error::torch("numbers to measure with"))
        };
        let mut vector = numbers(&[shape.outputs(widths)])?;
        if shape.operation == LayerOperation::BatchNorm {
            // Variances are not negative.
            vector = vector.f_abs().map_err(Error::torch("numbers to measure with"))?;
        }
        Ok(Self {
            input: numbers(&shape.input(widths))?,
            weight: numbers(&shape.weight(widths))?,
            vector,
            shape,
        })
    }

    /// The layer with these numbers of rows and columns of its weight.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(super) fn layer(&self, widths: [u64; 2]) -> Result<Layer> {
        let widths = widths.map(|width| width as i64);
        let part = |numbers: &Tensor, shape: &[i64]| {
            let part = numbers.f_narrow(0, 0, shape.iter().product());
            part.and_then(|part| part.f_view(shape)).map_err(Error::torch("a layer to measure"))
        };
        let vectors = match (self.shape.operation, self.shape.bias) {
            (LayerOperation::BatchNorm, _) => 4,
            (_, bias) => usize::from(bias),
        };
        let vector = part(&self.vector, &[self.shape.outputs(widths)])?;
        Ok(Layer {
            input: part(&self.input, &self.shape.input(widths))?,
            weight: part(&self.weight, &self.shape.weight(widths))?,
            vectors: (0..vectors).map(|_| vector.shallow_clone()).collect(),
            shape: self.shape.clone(),
        })
    }
}

impl Layer {
    /// Reads the input, so that caches hold it as behind the layer that made it.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn read_input(&self) -> Result<(), TchError> {
        self.input.f_sum(self.input.kind()).map(drop)
    }

    /// A forward pass.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn run(&self) -> Result<Tensor, TchError> {
        self.shape.compute(&self.input, &self.weight, &self.vectors)
    }
}
