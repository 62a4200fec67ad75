use slim_runtime::Prunable;
use tch::Device;
use tch::nn::{self, BatchNorm, Conv2D};

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = "three", crat = "slim_runtime")]
struct Net {
    #[prune(keep, keep)]
    conv: Conv2D,
    #[prune(skipp)]
    bn: BatchNorm,
}

fn main() {
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root(), 3, 4, 1, Default::default());
    let bn = nn::batch_norm2d(vs.root(), 4, Default::default());
    let _ = Net { conv, bn }.slim(0.5);
}
