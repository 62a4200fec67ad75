use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

fn no_trace(_: &Conv2D) {}

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune(with = no_trace)]
    conv: Conv2D,
    bn: BatchNorm,
    #[prune(per_channel)]
    scale: f64,
    #[prune(with = nowhere)]
    last: Conv2D,
}

fn main() {}
