use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
struct ReadsItself {
    input: Conv2D,
    #[prune(from = input)]
    conv: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = input + conv)]
struct Ambiguous {
    conv: Conv2D,
    input: Conv2D,
}

fn main() {}
