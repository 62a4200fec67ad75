use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = bn - side)]
struct Minus {
    conv: Conv2D,
    bn: BatchNorm,
    #[prune(from = input)]
    side: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = (bn == side, bn / side))]
struct Several {
    conv: Conv2D,
    bn: BatchNorm,
    #[prune(from = input)]
    side: Conv2D,
}

fn main() {}
