//! Weights that a trace can hold.

use tch::{TchError, Tensor};

/// Tensors that require no gradient while this is alive: libtorch takes no others for constants.
pub(super) struct Frozen(Vec<Tensor>);

impl Frozen {
    /// # Errors
    /// libtorch refused. All are then as they were.
    pub(super) fn all<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Result<Self, TchError> {
        let mut frozen = Frozen(Vec::new());
        for tensor in tensors.filter(|tensor| tensor.requires_grad()) {
            let _ = tensor.f_set_requires_grad(false)?;
            frozen.0.push(tensor.shallow_clone());
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for tensor in &self.0 {
            // It did before, so it can.
            let _ = tensor.f_set_requires_grad(true);
        }
    }
}
