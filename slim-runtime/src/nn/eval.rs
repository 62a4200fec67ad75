//! A model in evaluation mode, where tch asks for a `Module`.

use tch::Tensor;
use tch::nn::{Module, ModuleT};

/// A model in evaluation mode. tch makes every `Module` a `ModuleT`, so a model that is a `ModuleT`
/// cannot be a `Module` too; this is.
#[derive(Debug)]
pub struct Eval<M>(pub M);

/// A model in evaluation mode: `seq().add(eval(net))`.
pub fn eval<M: ModuleT>(model: M) -> Eval<M> {
    Eval(model)
}

impl<M: ModuleT> Module for Eval<M> {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.0.forward_t(xs, false)
    }
}
