use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::Conv2D;

#[derive(Prunable)]
struct TakesSelf {
    conv: Conv2D,
}

#[forward]
impl TakesSelf {
    fn forward(self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv)
    }
}

#[derive(Prunable)]
struct OtherName {
    conv: Conv2D,
}

#[forward]
impl OtherName {
    fn predict(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.conv)
    }
}

#[derive(Prunable)]
struct NoTensors {
    conv: Conv2D,
}

#[forward]
impl NoTensors {
    fn forward(&self, xs: &Tensor) -> f64 {
        xs.apply(&self.conv).double_value(&[0])
    }
}

fn main() {}
