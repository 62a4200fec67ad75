use slim_runtime::forward;
use tch::Tensor;
use tch::nn::Conv2D;

#[forward]
struct Net;

#[forward]
enum Layer {
    Conv(Conv2D),
}

#[forward]
mod layers {}

#[forward]
impl Clone for Net {
    fn clone(&self) -> Self {
        Net
    }
}

#[forward]
impl Net {
    fn width(&self) -> i64 {
        3
    }
}

#[forward]
fn width() -> i64 {
    3
}

#[forward]
async fn later(xs: &Tensor) -> Tensor {
    xs.relu()
}

#[forward]
fn generic<Tensor>(xs: Tensor) -> Tensor {
    xs
}

fn main() {}
