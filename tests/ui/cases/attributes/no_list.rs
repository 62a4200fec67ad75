use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune]
    conv1: Conv2D,
    #[prune = "skip"]
    conv2: Conv2D,
    #[prune(skip keep)]
    conv3: Conv2D,
}

fn main() {}
