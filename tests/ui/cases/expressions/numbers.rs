use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = [chunk(bn, 2, 2), chunk(bn, 0, 0), shuffle(bn, -1), pixel_shuffle(bn, 1.5), shuffle(bn, "two")])]
struct Net {
    conv: Conv2D,
    bn: BatchNorm,
}

fn main() {}
