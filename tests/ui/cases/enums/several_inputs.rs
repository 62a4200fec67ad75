use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = (3, 1))]
enum Layer {
    Conv(Conv2D),
}

fn main() {}
