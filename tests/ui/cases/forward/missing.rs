use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
struct Net {
    conv: Conv2D,
    bn: BatchNorm,
}

fn main() {}
