use slim_runtime::forward;
use tch::Tensor;

#[forward]
struct Net;

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
