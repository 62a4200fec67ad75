//! Freezes weights, so that a trace can hold them.

use tch::{TchError, Tensor};

/// Tensors that require no gradient while this is alive, because libtorch accepts no others as
/// constants.
pub(super) struct Frozen(Vec<Tensor>);

impl Frozen {
    /// # Errors
    /// When libtorch refuses. All tensors are unchanged then.
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
            // The tensor required a gradient before, so this does not fail.
            let _ = tensor.f_set_requires_grad(true);
        }
    }
}
