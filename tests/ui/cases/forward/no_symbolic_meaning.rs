use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{BatchNorm, Conv2D, ModuleT};

#[derive(Debug, Prunable)]
struct Net {
    conv: Conv2D,
    bn: BatchNorm,
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).inverse().apply_t(&self.bn, train)
    }
}

fn main() {}
