use slim_runtime::forward;
use tch::Tensor;

#[forward]
fn twice(xs: &Tensor) -> Tensor {
    xs + xs
}

#[forward]
fn owned(xs: Tensor) -> Tensor {
    xs.relu()
}

fn main() {
    twice(&1.0);
    owned(&Tensor::from(1.0));
}
