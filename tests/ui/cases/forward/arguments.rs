use slim_runtime::forward;
use tch::Tensor;

#[forward(symbolic)]
fn a(xs: &Tensor) -> Tensor {
    xs.relu()
}

#[forward(crate = slim_runtime)]
fn b(xs: &Tensor) -> Tensor {
    xs.relu()
}

#[forward("slim_runtime")]
fn c(xs: &Tensor) -> Tensor {
    xs.relu()
}

fn main() {
    let xs = Tensor::from(0.0);
    c(&b(&a(&xs)));
}
