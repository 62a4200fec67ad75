use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = [relu(), relu(bn, 6.), leaky_relu(bn, slope), elu(bn, 1., 2.), tahn(bn)])]
struct Wrong {
    conv: Conv2D,
    bn: BatchNorm,
}

fn main() {}
