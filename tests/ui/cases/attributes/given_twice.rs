use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = 3, input = 4)]
struct Net {
    #[prune(keep)]
    #[prune(keep)]
    conv: Conv2D,
}

fn main() {}
