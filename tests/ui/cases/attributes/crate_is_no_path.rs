use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(crate = slim_runtime)]
struct Bare(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(crate = "not a path")]
struct Text(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(crate = "::nowhere")]
struct Nowhere(Conv2D);

fn main() {}
