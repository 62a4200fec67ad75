use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = left + right)]
struct FirstReadsWhat {
    left: Conv2D,
    #[prune(from = input.1)]
    right: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = 3, output = left + right)]
struct OneWidth {
    #[prune(from = input.0)]
    left: Conv2D,
    #[prune(from = input.1)]
    right: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = (3, 1), output = left + right)]
struct TooFewWidths {
    #[prune(from = input.0)]
    left: Conv2D,
    #[prune(from = input.2)]
    right: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = (3, 0))]
struct NoWidth(#[prune(from = input.0)] Conv2D);

fn main() {}
