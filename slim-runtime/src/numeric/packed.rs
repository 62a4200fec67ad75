//! Weights as oneDNN's kernels read them.

use std::cell::Cell;
use std::sync::OnceLock;

use tch::{CModule, IValue, Kind, TchError, Tensor};

thread_local! {
    /// Whether layers of this thread leave their packed weights alone.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// What a convolution of two dimensions computes with, next to its weight: the same weight and
/// bias, packed.
///
/// oneDNN packs a weight anew each time that it is used. Here that is done once. Images are
/// channels-last, and ordinary tensors.
#[derive(Debug)]
pub(crate) struct Packed {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// How a convolution of two dimensions moves over its images, padded with zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) stride: [i64; 2],
    pub(crate) padding: [i64; 2],
    pub(crate) dilation: [i64; 2],
    pub(crate) groups: i64,
}

/// libtorch has the operator, but it can be called by a script alone:
/// `tests/fixtures/packed_conv.py` makes it.
fn operator() -> Result<&'static CModule, TchError> {
    static OPERATOR: OnceLock<Result<CModule, String>> = OnceLock::new();
    let load = || {
        CModule::load_data(&mut include_bytes!("packed.pt").as_slice())
            .map_err(|error| error.to_string())
    };
    OPERATOR.get_or_init(load).as_ref().map_err(|error| TchError::Torch(error.clone()))
}

impl Packed {
    /// Of a weight `[out, in / groups, height, width]`, best for images of the size `given`.
    ///
    /// # Errors
    /// What oneDNN does not take: another kind than `f32`, another device than the CPU.
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

    /// Another handle of the same tensors.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// What the convolution makes of a batch of images of single precision that no gradient is
    /// asked for; `None` for anything else.
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
        // What it does not take, an image that is smaller than the kernel for one, the layer itself
        // refuses in its own words.
        match operator().and_then(|operator| operator.forward_is(&arguments)) {
            Ok(IValue::Tensor(ys)) => Some(ys),
            _ => None,
        }
    }
}

/// Runs `body` with all layers' weights as they are without packing.
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
