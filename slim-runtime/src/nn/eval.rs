//! Wraps a model in evaluation mode as a `Module`.

use tch::Tensor;
use tch::nn::{Module, ModuleT};

/// A model in evaluation mode, as a `Module`. tch implements `ModuleT` for every `Module`, so a
/// model that implements `ModuleT` cannot implement `Module` itself.
#[derive(Debug)]
pub struct Eval<M>(pub M);

/// Wraps a model in evaluation mode: `seq().add(eval(net))`.
pub fn eval<M: ModuleT>(model: M) -> Eval<M> {
    Eval(model)
}

impl<M: ModuleT> Module for Eval<M> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.0.forward_t(xs, false)
    }
}
