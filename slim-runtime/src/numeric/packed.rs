//! Convolution weights in the layout of oneDNN's kernels.

use std::cell::Cell;
use std::sync::OnceLock;

use tch::{CModule, IValue, Kind, TchError, Tensor};

thread_local! {
    /// Whether layers on this thread ignore their packed weights.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// The packed weight and bias of a 2-D convolution, which keeps its plain weight as well.
///
/// oneDNN packs a plain weight again in each call. `Packed` packs it once. Images are
/// channels-last, and ordinary tensors.
#[derive(Debug)]
pub(crate) struct Packed {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Stride, zero padding, dilation and groups of a 2-D convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) stride: [i64; 2],
    pub(crate) padding: [i64; 2],
    pub(crate) dilation: [i64; 2],
    pub(crate) groups: i64,
}

/// Loads a script that calls libtorch's operator for packed weights, which only scripts can call.
/// `tests/fixtures/packed_conv.py` writes the script.
fn operator() -> Result<&'static CModule, TchError> {
    static OPERATOR: OnceLock<Result<CModule, String>> = OnceLock::new();
    let load = || {
        CModule::load_data(&mut include_bytes!("packed.pt").as_slice())
            .map_err(|error| error.to_string())
    };
    OPERATOR.get_or_init(load).as_ref().map_err(|error| TchError::Torch(error.clone()))
}

impl Packed {
    /// Packs a weight `[out, in / groups, height, width]` for images of the shape `given`.
    ///
    /// # Errors
    /// When the weight is not `f32` or not on the CPU: oneDNN does not take it.
    pub(crate) fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: Geometry,
        given: &[i64],
    ) -> Result<Self, TchError> {
        let Geometry { stride, padding, dilation, groups } = geometry;
        operator()?;
        let weight = weight
            .f_contiguous()?
            .f_to_mkldnn(None)?
            .f_mkldnn_reorder_conv2d_weight(padding, stride, dilation, groups, given)?;
        Ok(Self { weight, bias: bias.map(Tensor::shallow_clone) })
    }

    /// Another handle to the same tensors.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// Convolves a batch of `f32` images that need no gradient. `None` for any other input, for an
    /// input that the operator refuses, and in [`without_packing`].
    pub(crate) fn convolve(&self, xs: &Tensor, geometry: Geometry) -> Option<Tensor> {
        if PLAIN.get() || xs.dim() != 4 || xs.kind() != Kind::Float || xs.requires_grad() {
            return None;
        }
        let tensor = |tensor: &Tensor| IValue::Tensor(tensor.shallow_clone());
        let list = |sides: [i64; 2]| IValue::IntList(sides.to_vec());
        let Geometry { stride, padding, dilation, groups } = geometry;
        let arguments = [
            tensor(xs),
            tensor(&self.weight),
            self.bias.as_ref().map_or(IValue::None, tensor),
            list(padding),
            list(stride),
            list(dilation),
            IValue::Int(groups),
        ];
        // The layer itself reports an input that the operator refuses, such as an image smaller
        // than the kernel.
        match operator().and_then(|operator| operator.forward_is(&arguments)) {
            Ok(IValue::Tensor(ys)) => Some(ys),
            _ => None,
        }
    }
}

/// Runs `body` without packed weights: layers on this thread use their plain ones.
pub(crate) fn without_packing<T>(body: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _before = Before(PLAIN.replace(true));
    body()
}
