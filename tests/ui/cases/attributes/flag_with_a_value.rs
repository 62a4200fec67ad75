use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune(keep = true)]
    conv1: Conv2D,
    #[prune(elementwise(relu))]
    conv2: Conv2D,
}

fn main() {}
