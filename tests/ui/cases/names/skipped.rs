use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D, Linear};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = fc + aux)]
struct Net {
    conv: Conv2D,
    #[prune(skip)]
    aux: Linear,
    bn: BatchNorm,
    fc: Linear,
}

fn main() {}
