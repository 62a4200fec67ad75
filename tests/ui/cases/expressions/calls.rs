use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = blur(bn))]
struct NoSuchFunction {
    conv: Conv2D,
    bn: BatchNorm,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = shufle(bn, 2))]
struct Misspelt {
    conv: Conv2D,
    bn: BatchNorm,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = [chunk(bn, 2), shuffle(bn), pixel_shuffle(bn, 2, 2), conv(), conv(bn, bn)])]
struct WrongArguments {
    conv: Conv2D,
    bn: BatchNorm,
}

fn main() {}
