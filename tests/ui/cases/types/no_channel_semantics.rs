use slim_runtime::Prunable;
use tch::nn::Conv2D;

struct Act;

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    conv: Conv2D,
    act: Act,
    rest: Vec<Act>,
}

fn main() {}
