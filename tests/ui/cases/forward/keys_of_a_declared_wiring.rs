use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(output = bn + shortcut)]
struct Net {
    #[prune(act = relu)]
    conv: Conv2D,
    #[prune(elementwise)]
    bn: BatchNorm,
    #[prune(from = input, keep)]
    shortcut: Conv2D,
    #[prune(skip, keep)]
    extra: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential = true)]
enum Layer {
    Conv(#[prune(act = relu)] Conv2D),
    Bn(BatchNorm),
}

fn main() {}
