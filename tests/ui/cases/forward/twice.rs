use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{Conv2D, ModuleT};

#[derive(Debug, Prunable)]
struct Net {
    conv: Conv2D,
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.apply(&self.conv)
    }
}

#[forward]
impl Net {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv)
    }
}

fn main() {}
