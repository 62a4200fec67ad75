use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(inputs = 3)]
struct Net {
    #[prune(kep)]
    conv: Conv2D,
    #[prune(dropout)]
    bn: BatchNorm,
}

fn main() {}
