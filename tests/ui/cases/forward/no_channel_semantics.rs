use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{Conv2D, Module, ModuleT};

#[derive(Debug)]
struct Act;

impl Module for Act {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.relu()
    }
}

#[derive(Debug, Prunable)]
struct Net {
    conv: Conv2D,
    act: Act,
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply(&self.act);
        let xs = self.act.forward(&xs);
        Act.forward_t(&xs, train)
    }
}

fn main() {}
