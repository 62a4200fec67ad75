use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D, Linear};

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune(from = bn)]
    conv: Conv2D,
    bn: BatchNorm,
    #[prune(from = fc + bn)]
    fc: Linear,
}

fn main() {}
