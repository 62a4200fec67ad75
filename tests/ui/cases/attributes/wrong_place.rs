use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(skip)]
struct Net {
    #[prune(input = 3)]
    conv: Conv2D,
}

fn main() {}
