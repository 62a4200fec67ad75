use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D, Linear};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = bn2 + shortcutt)]
struct Misspelt {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
    #[prune(from = inputt)]
    shortcut: Option<Linear>,
}

#[derive(Prunable)]
#[prune(sequential)]
struct NothingLikeIt {
    conv1: Conv2D,
    #[prune(from = downsample)]
    conv2: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = 0 + 7)]
struct Tuple(Conv2D, BatchNorm);

fn main() {}
