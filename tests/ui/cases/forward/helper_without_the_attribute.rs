use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{Conv2D, ModuleT};

#[derive(Debug, Prunable)]
struct Net {
    conv: Conv2D,
}

impl Net {
    fn body(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv)
    }
}

fn swish(xs: &Tensor) -> Tensor {
    xs * xs.sigmoid()
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ys = self.body(xs);
        swish(&ys.relu()) + xs
    }
}

fn main() {}
