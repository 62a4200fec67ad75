use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
struct Words {
    #[prune(act = rellu)]
    misspelt: BatchNorm,
    #[prune(act = softplus)]
    unknown: BatchNorm,
    #[prune(act)]
    none: BatchNorm,
    #[prune(act = "relu")]
    quoted: BatchNorm,
    #[prune(act = relu(6.))]
    no_parameter: BatchNorm,
    #[prune(act = leaky_relu(slope))]
    no_number: BatchNorm,
    #[prune(skip, act = relu)]
    skipped: Conv2D,
}

fn main() {}
