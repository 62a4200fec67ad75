use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D, Linear};

#[derive(Prunable)]
#[prune(sequential)]
enum TwoFields {
    ConvBn(Conv2D, BatchNorm),
    Fc { fc: Linear, side: Linear },
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = conv)]
enum Attributes {
    #[prune(skip)]
    Conv(Conv2D),
    Fc(#[prune(from = input)] Linear),
    Bn(#[prune(skip, keep)] BatchNorm),
}

#[derive(Prunable)]
#[prune(sequential)]
union Either {
    a: u32,
    b: f32,
}

fn main() {}
