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
        let xs = ;
        xs.apply(&self.conv)
    }
}

fn main() {}
