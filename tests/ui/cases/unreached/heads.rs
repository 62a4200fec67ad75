use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = (head(left), head(right)))]
struct OnlyApplied {
    left: Conv2D,
    #[prune(from = input)]
    right: Conv2D,
    head: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = (left, right))]
struct Tuple {
    left: Conv2D,
    #[prune(from = input)]
    right: Conv2D,
    #[prune(from = input)]
    third: Conv2D,
}

fn main() {}
