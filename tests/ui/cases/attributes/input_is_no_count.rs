use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = "3")]
struct Text(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = 0)]
struct Zero(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input = -3)]
struct Negative(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(input)]
struct Bare(Conv2D);

fn main() {}
