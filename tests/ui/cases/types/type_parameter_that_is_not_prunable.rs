use slim_runtime::Prunable;
use tch::Device;
use tch::nn::{self, Conv2D};

#[derive(Debug)]
struct Act;

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Net<A> {
    conv: Conv2D,
    act: A,
}

fn main() {
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root(), 3, 4, 1, Default::default());
    let _ = Net { conv, act: Act }.slim(0.5);
}
