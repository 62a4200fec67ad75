use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
struct ForgottenOutput {
    conv: Conv2D,
    bn: BatchNorm,
    #[prune(from = input)]
    downsample: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = bn2 + input)]
struct ForgottenBranch {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
    #[prune(from = input)]
    downsample: Conv2D,
    stride: i64,
}

fn main() {}
